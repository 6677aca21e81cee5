/**
 * `ringbell hz <topic>`: measures how many messages and bytes come, and how old the messages are when they are
 * received. It attaches like any subscriber, so it sees what they see. On a terminal it rewrites its lines; otherwise
 * it writes one line for each topic and interval.
 */
import { createHistogram, type RecordableHistogram } from 'node:perf_hooks'
import { Command, Option } from 'commander'
import { type Batch, type Bus, RingbellError } from '../../index.js'
import { bandwidth, count, duration, DURATIONS, parseCount, parseDuration, perSecond } from '../figures.js'
import { IdleTimer } from '../idle-timer.js'
import { mismatch } from '../kind-mismatch.js'
import { LiveBlock } from '../live-block.js'
import { tellOf } from '../publisher-notes.js'
import { placeOf, runSession, type Session } from '../session.js'
import { LARGEST } from '../splitter.js'
import { columns } from '../table.js'

interface HzOptions {
  interval: number
  count?: number
  timeout?: number
}

/** How many messages of a batch are measured. They were received together, so more would only cost time. */
const SAMPLES = 32

export function hz(): Command {
  return new Command('hz')
    .summary('measure the rate and latency of a topic')
    .description(
      'Measures messages and bytes per second, and the latency: the time from the commit of a message until it is received ' +
        'here (a sample of each batch). On a "block" topic it slows down the publisher if it is too slow, like any subscriber.',
    )
    .argument('<topic>', 'topic name or pattern')
    .addOption(
      new Option('-i, --interval <duration>', `time between two reports ${DURATIONS}`)
        .argParser(parseDuration)
        .default(1000, '1s'),
    )
    .option('-n, --count <n>', 'end after this many reports (exit code 3 if there was no publisher)', parseCount)
    .option(
      '-t, --timeout <duration>',
      `give up if nothing comes for this long (exit code 3) ${DURATIONS}`,
      parseDuration,
    )
    .action((topic: string, options: HzOptions, command: Command) =>
      runSession(command, 'wait', (session) => measure(session, topic, options), options.timeout),
    )
}

async function measure({ bus, out, signal }: Session, topic: string, options: HzOptions): Promise<void> {
  const subscriber = await bus.subscriber(topic, { maxMessage: LARGEST.bytes })
  const meters = new Map<string, Meter>()
  const idle = new IdleTimer(options.timeout, () => subscriber.close())
  const block = out.live ? new LiveBlock(process.stdout) : undefined
  if (block !== undefined) out.beforeNote = () => block.erase()
  let reports = 0
  let publishers = 0
  subscriber.on('attached', () => publishers++)
  tellOf(subscriber, out)
  subscriber.on('missed', ({ service }, messages) => (meterOf(service.name).missed += messages))

  const report = (): void => {
    const figures = [...meters.values()].map((meter) => meter.read())
    if (block !== undefined) block.draw(table(figures))
    else for (const one of figures) out.post(out.json ? JSON.stringify(one) : sentence(one))
    if (++reports === options.count) void subscriber.close()
  }
  const meterOf = (name: string): Meter => {
    let meter = meters.get(name)
    if (meter === undefined) meters.set(name, (meter = new Meter(name)))
    return meter
  }

  // A single name has its line from the beginning, even without a publisher.
  if (!topic.includes('*')) meterOf(topic)
  const timer = setInterval(report, options.interval)
  try {
    for await (const batch of subscriber.batches({ lifetime: 'borrowed', signal })) {
      meterOf(batch.service).take(batch)
      idle.start()
    }
  } finally {
    clearInterval(timer)
    idle.stop()
  }
  if (publishers === 0 && !idle.elapsed && !isAnnounced(bus, topic))
    throw new RingbellError(
      'ERR_RINGBELL_NOT_FOUND',
      `No process publishes '${topic}' on ${placeOf(bus)}${mismatch(bus, topic, 'topic')}`,
    )
  if (idle.elapsed)
    throw new RingbellError(
      'ERR_RINGBELL_TIMEOUT',
      `Nothing came from '${topic}' for ${duration((options.timeout ?? 0) * 1e6)}${mismatch(bus, topic, 'topic')}`,
    )
}

/** Whether there is such a topic, although nothing was attached yet. */
function isAnnounced({ services }: Bus, topic: string): boolean {
  const pattern = new RegExp(`^${topic.replaceAll('.', '\\.').replaceAll('*', '.*')}$`)
  return services.list().some(({ name, kind }) => kind === 'topic' && pattern.test(name))
}

/** What came from one topic during an interval. Rates are per second, latencies in nanoseconds. */
interface Figures {
  topic: string
  messages: number
  messagesPerSecond: number
  bytesPerSecond: number
  latencyP50: number | null
  latencyP99: number | null
  missed: number
}

class Meter {
  missed = 0
  readonly #topic: string
  readonly #latency: RecordableHistogram = createHistogram()
  #since = performance.now()
  #messages = 0
  #bytes = 0

  constructor(topic: string) {
    this.#topic = topic
  }

  take(batch: Batch): void {
    const now = process.hrtime.bigint()
    const { length } = batch
    this.#messages += length
    for (let i = 0; i < length; i++) this.#bytes += batch.byteLength(i)
    const step = Math.ceil(length / SAMPLES)
    for (let i = 0; i < length; i += step) {
      const age = now - batch.time(i)
      this.#latency.record(age > 0n ? age : 1n)
    }
  }

  /** The figures since the last call. */
  read(): Figures {
    const now = performance.now()
    const seconds = (now - this.#since) / 1000
    const quiet = this.#messages === 0
    const figures = {
      topic: this.#topic,
      messages: this.#messages,
      messagesPerSecond: this.#messages / seconds,
      bytesPerSecond: this.#bytes / seconds,
      latencyP50: quiet ? null : this.#latency.percentile(50),
      latencyP99: quiet ? null : this.#latency.percentile(99),
      missed: this.missed,
    }
    this.#since = now
    this.#messages = 0
    this.#bytes = 0
    this.missed = 0
    this.#latency.reset()
    return figures
  }
}

function cells({ messagesPerSecond, bytesPerSecond, latencyP50, latencyP99, missed }: Figures): string[] {
  const latency = (ns: number | null): string => (ns === null ? '-' : duration(ns))
  return [
    perSecond(messagesPerSecond),
    bandwidth(bytesPerSecond),
    latency(latencyP50),
    latency(latencyP99),
    count(missed),
  ]
}

function table(figures: readonly Figures[]): string[] {
  const rows = figures.map((one) => [one.topic, ...cells(one)])
  return columns([['TOPIC', 'MESSAGES', 'BYTES', 'P50', 'P99', 'MISSED'], ...rows], [1, 2, 3, 4, 5])
}

function sentence(figures: Figures): string {
  const [messages, bytes, p50, p99, missed] = cells(figures)
  const misses = figures.missed > 0 ? `  missed ${missed}` : ''
  return `${figures.topic}  ${messages}  ${bytes}  p50 ${p50}  p99 ${p99}${misses}`
}
