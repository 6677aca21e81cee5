/**
 * The counters as observable instruments of OpenTelemetry. One callback reads all endpoints once for each collection. The meter is the
 * user's, so this package loads nothing.
 */
import { check, checkArgument, type Rule, type Rules } from '../check.js'
import { Endpoints, type Labels, type MetricsSource, type Readings } from './endpoints.js'
import { type Figure, FIGURES, type FigureType, KINDS, type StatsOf } from './figures.js'
import type { Metrics } from './prometheus.js'

interface InstrumentOptions {
  description?: string
  unit?: string
}

/** What a `Meter` of `@opentelemetry/api` has, as far as it is used here. */
export interface MetricsMeter {
  createObservableCounter(name: string, options?: InstrumentOptions): object
  createObservableUpDownCounter(name: string, options?: InstrumentOptions): object
  createObservableGauge(name: string, options?: InstrumentOptions): object
  addBatchObservableCallback(callback: never, observables: never): void
  removeBatchObservableCallback(callback: never, observables: never): void
}

/** Where metrics go. */
export interface OpenTelemetryOptions {
  /** The meter, such as `metrics.getMeter('my-service')`. */
  meter: MetricsMeter
}

interface Result {
  observe(instrument: object, value: number, attributes?: Readonly<Record<string, string>>): void
}

/** Something to observe at each collection. */
interface Observed {
  readonly instrument: object
  observe(result: Result, readings: Readings): void
}

const METHODS = [
  'createObservableCounter',
  'createObservableUpDownCounter',
  'createObservableGauge',
  'addBatchObservableCallback',
  'removeBatchObservableCallback',
] as const

const METER: Rule = (value) => {
  const meter = (value ?? {}) as Partial<MetricsMeter>
  return METHODS.every((name) => typeof meter[name] === 'function')
    ? undefined
    : 'must be a meter of @opentelemetry/api: metrics.getMeter(name)'
}
const RULES: Rules = { meter: METER }

const CREATE = {
  counter: 'createObservableCounter',
  sum: 'createObservableUpDownCounter',
  gauge: 'createObservableGauge',
} as const satisfies Record<FigureType, keyof MetricsMeter>

/**
 * Makes observable instruments for the counters of all endpoints of a bus, now and later. They are read at each collection.
 *
 * @throws {RingbellError} `ERR_RINGBELL_INVALID_OPTION`.
 */
export function openTelemetryMetrics(sources: MetricsSource, options: OpenTelemetryOptions): Metrics {
  check(options, RULES)
  checkArgument('meter', options?.meter, METER)
  const { meter } = options
  const endpoints = new Endpoints(sources)
  const all: Observed[] = [unreadable(meter)]
  for (const kind of KINDS) all.push(...FIGURES[kind].map((figure) => observed(meter, kind, figure)))
  const callback = (result: Result): void => {
    const readings = endpoints.read()
    for (const one of all) one.observe(result, readings)
  }
  const instruments = all.map(({ instrument }) => instrument)
  meter.addBatchObservableCallback(callback as never, instruments as never)
  return { close: () => meter.removeBatchObservableCallback(callback as never, instruments as never) }
}

function observed<K extends keyof StatsOf>(meter: MetricsMeter, kind: K, figure: Figure<StatsOf[K]>): Observed {
  const { name, type, unit, help } = figure
  const instrument = meter[CREATE[type]](`ringbell.${name}`, { description: help, unit })
  return {
    instrument,
    observe(result, readings) {
      for (const { labels, stats } of readings.of(kind))
        result.observe(instrument, figure.read(stats), attributesOf(labels))
    },
  }
}

const known = new WeakMap<Labels, Readonly<Record<string, string>>>()

/** The labels under names of our own, as OpenTelemetry wants it. */
function attributesOf(labels: Labels): Readonly<Record<string, string>> {
  const before = known.get(labels)
  if (before !== undefined) return before
  const attributes = { 'ringbell.name': labels.name, 'ringbell.number': labels.number }
  known.set(labels, attributes)
  return attributes
}

function unreadable(meter: MetricsMeter): Observed {
  const description = 'Endpoints whose counters could not be read.'
  const instrument = meter.createObservableGauge('ringbell.unreadable_endpoints', { description, unit: '{endpoint}' })
  return { instrument, observe: (result, readings) => result.observe(instrument, readings.unreadable) }
}
