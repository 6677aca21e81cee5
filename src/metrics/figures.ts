/**
 * Every figure that metrics have, by the kind of endpoint: its name, what it means, and where in `stats()` it is. Both adapters are made from this
 * table. A name is that of OpenTelemetry without `ringbell.`; the name of Prometheus follows from it, as the OpenTelemetry collector would
 * make it: `publisher.sent` in bytes is `ringbell_publisher_sent_bytes_total`.
 */
import type { Role } from '../bus/membership.js'
import type { ClientStats, QueueStats, ServerStats, WorkerStats } from '../channel/stats.js'
import type { PublisherStats, SubscriberStats } from '../topic/stats.js'

/** What the endpoints of a kind say of themselves. */
export interface StatsOf {
  publisher: PublisherStats
  subscriber: SubscriberStats
  state: PublisherStats
  state_reader: SubscriberStats
  server: ServerStats
  client: ClientStats
  queue: QueueStats
  worker: WorkerStats
  member: { readonly role: Role; readonly epoch: number }
}

export type EndpointKind = keyof StatsOf

/** `counter`: a total that only grows. `sum`: an amount of which a total makes sense. `gauge`: any other value. */
export type FigureType = 'counter' | 'sum' | 'gauge'

export interface Figure<S> {
  readonly name: string
  readonly type: FigureType
  /** By the Unified Code for Units of Measure, as OpenTelemetry wants it: `By`, or `{message}` for a number of things. */
  readonly unit: string
  readonly help: string
  read(stats: S): number
}

type Described = readonly [type: FigureType, unit: string, help: string]
type Row<S> = readonly [name: string, ...Described, read: (stats: S) => number]

function figures<S>(kind: EndpointKind, ...rows: readonly Row<S>[]): readonly Figure<S>[] {
  return rows.map(([name, type, unit, help, read]) => ({ name: `${kind}.${name}`, type, unit, help, read }))
}

/** The largest of these, 0 if there are none. */
function largest<T>(items: readonly T[], value: (item: T) => number): number {
  return items.reduce((most, one) => Math.max(most, value(one)), 0)
}

function total<T>(items: readonly T[], value: (item: T) => number): number {
  return items.reduce((sum, one) => sum + value(one), 0)
}

const HANDLED = {
  connections: ['sum', '{connection}', 'Connections now.'],
  replies: ['counter', '{request}', 'Requests that were answered with a value or a whole stream.'],
  errors: ['counter', '{request}', 'Requests that were answered with an error.'],
  cancelled: ['counter', '{request}', 'Requests that their callers gave up before they were answered.'],
  in_hand: ['sum', '{request}', 'Requests that are being handled.'],
  abandoned: ['sum', '{request}', 'Handlers that still run although nobody waits for their answer.'],
} as const satisfies Record<string, Described>

export const FIGURES: { readonly [K in EndpointKind]: readonly Figure<StatsOf[K]>[] } = {
  publisher: figures<PublisherStats>(
    'publisher',
    ['messages', 'counter', '{message}', 'Messages committed.', (stats) => stats.messages],
    ['sent', 'counter', 'By', 'Bytes of payload committed.', (stats) => stats.bytes],
    ['full', 'counter', '{message}', 'Times that a message found no room.', (stats) => stats.full],
    ['dropped', 'counter', '{message}', 'Messages dropped under drop-newest.', (stats) => stats.dropped],
    ['waits', 'counter', '{wait}', 'Times that it went to sleep because there was no room.', (stats) => stats.waits],
    ['evicted', 'counter', '{subscriber}', 'Subscribers evicted or expelled.', (stats) => stats.evicted],
    ['subscribers', 'sum', '{subscriber}', 'Attached subscribers.', attached],
    ['capacity', 'sum', 'By', 'Bytes of the ring.', (stats) => stats.capacity],
    ['backlog', 'gauge', 'By', 'Bytes that the slowest subscriber has not read yet.', slowest],
    ['high_water', 'gauge', 'By', 'Largest backlog seen when it was short of room.', (stats) => stats.highWater],
  ),
  subscriber: figures<SubscriberStats>(
    'subscriber',
    ['received', 'counter', '{message}', 'Messages received.', (stats) => stats.received],
    ['missed', 'counter', '{message}', 'Messages missed.', (stats) => stats.missed],
    ['redelivered', 'counter', '{message}', 'Messages that came again.', (stats) => stats.acks.redelivered],
    ['wakeups', 'counter', '{wakeup}', 'Times that it was woken from sleep.', (stats) => stats.wakeups],
    ['unacknowledged', 'sum', '{message}', 'Messages taken and not acknowledged.', (stats) => stats.acks.pending],
    ['backlog', 'sum', 'By', 'Bytes that it has not read yet.', (stats) => total(stats.sources, unread)],
    ['publishers', 'sum', '{publisher}', 'Publishers that it is attached to.', (stats) => stats.sources.length],
    ['streams', 'sum', '{publisher}', 'Those of them without shared memory.', (stats) => total(stats.sources, stream)],
  ),
  state: figures<PublisherStats>(
    'state',
    ['values', 'counter', '{value}', 'Values written.', (stats) => stats.messages],
    ['written', 'counter', 'By', 'Bytes of values written.', (stats) => stats.bytes],
    ['readers', 'sum', '{reader}', 'Attached readers.', attached],
  ),
  state_reader: figures<SubscriberStats>(
    'state_reader',
    ['writers', 'sum', '{writer}', 'Attached writers.', (stats) => stats.sources.length],
    ['wakeups', 'counter', '{wakeup}', 'Times that it was woken from sleep.', (stats) => stats.wakeups],
  ),
  server: figures<ServerStats>(
    'server',
    ['requests', 'counter', '{request}', 'Requests that came.', (stats) => stats.requests],
    ['replies', ...HANDLED.replies, (stats) => stats.replies],
    ['errors', ...HANDLED.errors, (stats) => stats.errors],
    ['cancelled', ...HANDLED.cancelled, (stats) => stats.cancelled],
    ['accepted', 'counter', '{connection}', 'Connections since the beginning.', (stats) => stats.accepted],
    ['connections', ...HANDLED.connections, (stats) => stats.connections],
    ['in_hand', ...HANDLED.in_hand, (stats) => stats.inHand],
    ['abandoned', ...HANDLED.abandoned, (stats) => stats.abandoned],
  ),
  client: figures<ClientStats>(
    'client',
    ['calls', 'counter', '{call}', 'Calls and streams that were begun.', (stats) => stats.calls],
    ['repeated', 'counter', '{call}', 'Calls and streams that were sent again.', (stats) => stats.repeated],
    ['connections', 'sum', '{connection}', 'Connected servers.', (stats) => stats.connections],
    ['in_flight', 'sum', '{call}', 'Calls and streams without an answer.', (stats) => stats.inFlight],
    ['waiting', 'sum', '{call}', 'Calls and streams that wait for a connection.', (stats) => stats.waiting],
  ),
  queue: figures<QueueStats>(
    'queue',
    ['pushed', 'counter', '{message}', 'Messages that were accepted.', (stats) => stats.pushed],
    ['acknowledged', 'counter', '{message}', 'Messages that workers have done.', (stats) => stats.acknowledged],
    ['redelivered', 'counter', '{message}', 'Times that a message was delivered again.', (stats) => stats.redelivered],
    ['failed', 'counter', '{message}', 'Messages that were given up.', (stats) => stats.failed],
    ['withdrawn', 'counter', '{message}', 'Messages that were taken back.', (stats) => stats.withdrawn],
    ['workers', 'sum', '{worker}', 'Connected workers.', (stats) => stats.workers],
    ['waiting', 'sum', '{message}', 'Messages that wait for a worker.', (stats) => stats.waiting],
    ['delayed', 'sum', '{message}', 'Messages that are not to be assigned yet.', (stats) => stats.delayed],
    ['assigned', 'sum', '{message}', 'Messages that a worker has.', (stats) => stats.assigned],
    ['dead_letters', 'sum', '{message}', 'Messages in deadLetters.', (stats) => stats.deadLetters],
  ),
  worker: figures<WorkerStats>(
    'worker',
    ['messages', 'counter', '{message}', 'Messages that came.', (stats) => stats.requests],
    ['acknowledged', 'counter', '{message}', 'Messages that were done.', (stats) => stats.replies],
    ['errors', 'counter', '{message}', 'Messages whose handler failed.', (stats) => stats.errors],
    ['cancelled', 'counter', '{message}', 'Messages that their queue gave up.', (stats) => stats.cancelled],
    ['connections', 'sum', '{queue}', 'Queues that it works for.', (stats) => stats.connections],
    ['in_hand', 'sum', '{message}', 'Messages that are being worked on.', (stats) => stats.inHand],
    ['abandoned', ...HANDLED.abandoned, (stats) => stats.abandoned],
  ),
  member: figures<StatsOf['member']>(
    'member',
    [
      'primary',
      'gauge',
      '1',
      '1 while it is primary, 0 while it is a standby.',
      ({ role }) => Number(role === 'primary'),
    ],
    ['epoch', 'gauge', '1', 'The epoch of its term, or of its last one.', ({ epoch }) => epoch],
  ),
}

/** The kinds of endpoints. */
export const KINDS = Object.keys(FIGURES) as readonly EndpointKind[]

function attached({ subscribers }: PublisherStats): number {
  return total(subscribers, ({ state }) => Number(state === 'active'))
}

function slowest({ subscribers }: PublisherStats): number {
  return largest(subscribers, ({ backlog }) => backlog)
}

function unread({ backlog }: SubscriberStats['sources'][number]): number {
  return backlog
}

function stream({ rung }: SubscriberStats['sources'][number]): number {
  return Number(rung === 'stream')
}
