/**
 * The counters as metrics of `prom-client`. Each metric is an object of the form that a register asks at each scrape, instead of a `Counter` or
 * `Gauge`, which would have to be set label by label: a thousand endpoints would take several times as long. The registry is the user's,
 * so this package loads nothing.
 */
import { check, checkArgument, type Rule, type Rules } from '../check.js'
import { Endpoints, type Labels, type MetricsSource, type Readings } from './endpoints.js'
import { type Figure, FIGURES, KINDS, type StatsOf } from './figures.js'

/** What a `Registry` of prom-client has, as far as it is used here. */
export interface MetricsRegister {
  registerMetric(metric: never): void
  removeSingleMetric(name: string): void
}

/** Where metrics go. */
export interface PrometheusOptions {
  /** The register of prom-client, such as its `register`, or `new Registry()`. */
  register: MetricsRegister
}

/** Metrics that are registered. */
export interface Metrics {
  /** Takes them out again. Idempotent. */
  close(): void
}

interface Sample {
  readonly value: number
  readonly labels: Partial<Labels>
}

interface SharedSample {
  readonly value: number
  readonly sharedLabels: Partial<Labels>
}

/** What a metric tells at a scrape. A register may change the name: in the format of OpenMetrics that of a counter is shorter. */
interface Told {
  name: string
  readonly help: string
  readonly type: 'counter' | 'gauge'
  readonly aggregator: 'sum'
}

const REGISTER: Rule = (value) => {
  const { registerMetric, removeSingleMetric } = (value ?? {}) as Partial<MetricsRegister>
  return typeof registerMetric === 'function' && typeof removeSingleMetric === 'function'
    ? undefined
    : "must be a register of prom-client: import { register } from 'prom-client'"
}
const RULES: Rules = { register: REGISTER }

/**
 * Registers the counters of all endpoints of a bus, now and later, as metrics of prom-client. They are read at each scrape.
 *
 * @throws {RingbellError} `ERR_RINGBELL_INVALID_OPTION`; what the register throws if it has metrics of these names already.
 */
export function prometheusMetrics(sources: MetricsSource, options: PrometheusOptions): Metrics {
  check(options, RULES)
  checkArgument('register', options?.register, REGISTER)
  const { register } = options
  const metrics = metricsOf(new Scrape(new Endpoints(sources)))
  const names: string[] = []
  const close = (): void => {
    for (const name of names.splice(0)) register.removeSingleMetric(name)
  }
  try {
    for (const metric of metrics) {
      const { name } = metric
      register.registerMetric(metric as never)
      names.push(name)
    }
  } catch (error) {
    close()
    throw error
  }
  return { close }
}

/** The endpoints are read once for all metrics of a scrape, which a register asks in one turn of the event loop. */
class Scrape {
  readonly #endpoints: Endpoints
  #readings: Readings | undefined

  constructor(endpoints: Endpoints) {
    this.#endpoints = endpoints
  }

  get readings(): Readings {
    if (this.#readings === undefined) setImmediate(() => (this.#readings = undefined))
    return (this.#readings ??= this.#endpoints.read())
  }
}

class Metric implements Told {
  name: string
  readonly help: string
  readonly type: Told['type']
  readonly aggregator = 'sum'
  readonly labelNames: readonly string[]
  readonly #samples: () => readonly Sample[]

  constructor(told: Omit<Told, 'aggregator'>, labelNames: readonly string[], samples: () => readonly Sample[]) {
    this.name = told.name
    this.help = told.help
    this.type = told.type
    this.labelNames = labelNames
    this.#samples = samples
  }

  /** What a register asks for JSON, and for other registers. */
  async get(): Promise<Told & { values: readonly Sample[] }> {
    return { ...this.#told, values: this.#samples() }
  }

  /** What a register asks for text. It writes shared labels once for each object, and these stay the same for an endpoint. */
  async getForPromString(): Promise<Told & { values: readonly SharedSample[] }> {
    return { ...this.#told, values: this.#samples().map(({ value, labels }) => ({ value, sharedLabels: labels })) }
  }

  get #told(): Told {
    const { name, help, type, aggregator } = this
    return { name, help, type, aggregator }
  }

  /** Registers can reset their metrics. The counters are those of the endpoints, and stay. */
  reset(): void {}
}

function metricsOf(scrape: Scrape): Metric[] {
  const unreadable = new Metric(
    { name: 'ringbell_unreadable_endpoints', help: 'Endpoints whose counters could not be read.', type: 'gauge' },
    [],
    () => [{ value: scrape.readings.unreadable, labels: {} }],
  )
  return [unreadable, ...KINDS.flatMap((kind) => FIGURES[kind].map((figure) => metricOf(scrape, kind, figure)))]
}

function metricOf<K extends keyof StatsOf>(scrape: Scrape, kind: K, figure: Figure<StatsOf[K]>): Metric {
  const { type, help } = figure
  return new Metric(
    { name: prometheusName(figure), help, type: type === 'counter' ? 'counter' : 'gauge' },
    ['name', 'number'],
    () => scrape.readings.of(kind).map(({ labels, stats }) => ({ value: figure.read(stats), labels })),
  )
}

/** The conventions of Prometheus: the unit is in the name, and a total ends with `_total`. */
export function prometheusName({ name, unit, type }: Pick<Figure<never>, 'name' | 'unit' | 'type'>): string {
  const words = `ringbell_${name.replaceAll('.', '_')}`
  return words + (unit === 'By' ? '_bytes' : '') + (type === 'counter' ? '_total' : '')
}
