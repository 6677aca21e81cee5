// Compiled, never run: what users may write, and with @ts-expect-error what they may not.
import type { Meter } from '@opentelemetry/api'
import type { Registry } from 'prom-client'
import { bytes, RemoteError, RingbellError } from 'ringbell'
import type {
  AttachedSubscriber,
  Batch,
  Bus,
  Claim,
  ClaimState,
  Client,
  Codec,
  Connection,
  ConnectOptions,
  Lock,
  LockMode,
  LocksSnapshot,
  Permits,
  DeadLetterSummary,
  Member,
  Message,
  Publisher,
  PublisherOptions,
  Queue,
  QueueOptions,
  Schema,
  ServeOptions,
  Server,
  Service,
  RoleInfo,
  State,
  StateChange,
  ServiceEvent,
  StandardSchema,
  Subscriber,
  SubscriberOptions,
  Term,
  WaitOptions,
  Worker,
  WorkerOptions,
} from 'ringbell'
import { exportTo, render } from 'ringbell/export'
import { openTelemetryMetrics, prometheusMetrics } from 'ringbell/metrics'

/** Equal, and `any` equals nothing but itself. */
type IsAny<T> = 0 extends 1 & T ? true : false
type Same<A, B> = IsAny<A> extends IsAny<B> ? ([A] extends [B] ? ([B] extends [A] ? true : false) : false) : false
const same = <A, B>(yes: Same<A, B>): void => void yes

interface Tick {
  n: number
}

const own: Codec<Tick> = { id: 'tick', encode: ({ n }) => Uint8Array.of(n), decode: (data) => ({ n: data[0] ?? 0 }) }

export async function publishing(bus: Bus): Promise<void> {
  await using plain = await bus.publisher('ticks', { overflow: 'block', capacity: 4096, evictAfter: 100 })
  same<typeof plain, Publisher>(true)
  same<ReturnType<typeof plain.send>, boolean>(true)
  plain.send(Buffer.from('x'))
  // @ts-expect-error text is no bytes
  plain.send('x')
  same<ReturnType<typeof plain.write>, Promise<void>>(true)
  await plain.write(new Uint8Array(1), { signal: AbortSignal.timeout(1) })
  // @ts-expect-error text is no bytes
  await plain.write('x')
  if (!plain.send(new Uint8Array(1))) await plain.ready({ signal: AbortSignal.timeout(1), bytes: 1 })

  const typed = await bus.publisher<Tick>('ticks', { codec: 'json' })
  typed.send({ n: 1 })
  // @ts-expect-error not a Tick
  typed.send({ m: 1 })
  const coded = await bus.publisher('ticks', { codec: own })
  same<typeof coded, Publisher<Tick>>(true)

  same<ReturnType<typeof plain.attached>, Promise<void>>(true)
  await plain.attached({ count: 2, signal: AbortSignal.timeout(1) })
  // @ts-expect-error a number of subscribers
  await plain.attached({ count: '2' })
  plain.on('attached', (subscriber) => same<typeof subscriber, AttachedSubscriber>(true))
  plain.on('ended', (subscriber, reason) => void (subscriber.pid + (reason === 'died' ? 1 : 0)))
  plain.on('stalled', (_subscriber, milliseconds) => milliseconds.toFixed())
  // @ts-expect-error no such reason
  plain.on('evicted', (_subscriber, reason) => reason === 'slow')
  // @ts-expect-error messages are no events
  plain.on('message', () => undefined)

  const loan = plain.loan(10)
  // @ts-expect-error there may be no room
  loan.commit()
  loan?.data.fill(0)
  const writer = plain.batch()
  same<ReturnType<typeof writer.reserve>, Uint8Array | undefined>(true)

  // @ts-expect-error no such policy
  await bus.publisher('ticks', { overflow: 'drop' })
  // @ts-expect-error no such option
  await bus.publisher('ticks', { overfow: 'block' })
  // @ts-expect-error no such codec
  await bus.publisher('ticks', { codec: 'yaml' })
}

export async function subscribing(bus: Bus): Promise<void> {
  await using plain = await bus.subscriber('ticks', { from: 'earliest', wait: { mode: 'adaptive', budget: 50 } })
  same<typeof plain, Subscriber>(true)
  for await (const message of plain) {
    same<typeof message, Message>(true)
    same<typeof message.sequence, number>(true)
    same<typeof message.time, bigint>(true)
    // @ts-expect-error messages are read, not written
    message.data = new Uint8Array(1)
    break
  }
  same<ReturnType<typeof plain.tryReceive>, Message | undefined>(true)
  for await (const batch of plain.batches({ lifetime: 'borrowed', signal: AbortSignal.timeout(1) })) {
    same<typeof batch, Batch>(true)
    batch.release()
  }
  // @ts-expect-error no such lifetime
  plain.batches({ lifetime: 'mine' })

  plain.on('attached', (publisher) => same<typeof publisher.service, Service>(true))
  plain.on('missed', (publisher, messages) => void (publisher.service.id + messages.toFixed()))
  plain.on('failed', (error, service) => same<typeof error, RingbellError>(true) ?? service?.name)
  // @ts-expect-error messages are no events
  plain.on('message', () => undefined)

  const typed = await bus.subscriber<Tick>('ticks', { codec: 'json' })
  same<Awaited<ReturnType<typeof typed.receive>>['value'], Tick>(true)
  const unknown = await bus.subscriber('ticks', { codec: 'structured' })
  same<NonNullable<ReturnType<typeof unknown.tryReceive>>['value'], unknown>(true)
  const coded = await bus.subscriber('ticks', { codec: own })
  same<typeof coded, Subscriber<Tick>>(true)
  await bus.subscriber('ticks', { codec: 'bytes' })
  await bus.subscriber('ticks', { codec: bytes })
}

export async function configured(
  bus: Bus,
  plain: PublisherOptions,
  typed: PublisherOptions<Tick>,
  reading: SubscriberOptions,
  readingTyped: SubscriberOptions<Tick>,
  budget: number | undefined,
): Promise<void> {
  const publisher = await bus.publisher('ticks', plain)
  same<typeof publisher, Publisher>(true)
  const typedPublisher = await bus.publisher('ticks', typed)
  same<typeof typedPublisher, Publisher<Tick>>(true)
  const subscriber = await bus.subscriber('ticks', reading)
  same<typeof subscriber, Subscriber>(true)
  const typedSubscriber = await bus.subscriber('ticks', readingTyped)
  same<typeof typedSubscriber, Subscriber<Tick>>(true)
  const wait: WaitOptions = { mode: 'adaptive', budget, slice: undefined }
  await bus.subscriber('ticks', { wait })
}

/** Options of channels in a variable, too. */
export async function configuredChannels(
  bus: Bus,
  jobs: QueueOptions<Tick>,
  work: WorkerOptions<Tick>,
  calls: ServeOptions<Tick, string>,
  calling: ConnectOptions<Tick, string>,
): Promise<void> {
  const queue: Queue<Tick> = await bus.queue('jobs', jobs)
  // @ts-expect-error not a Tick
  queue.push({ m: 1 })
  const worker: Worker<Tick> = await bus.worker('jobs', work, (tick) => tick.n)
  // @ts-expect-error not a Tick
  await bus.worker('jobs', work, (tick) => tick.m)
  const server: Server<Tick | string> = await bus.serve('calls', calls, ({ n }) => `${n}`)
  // @ts-expect-error replies are text
  await bus.serve('calls', calls, ({ n }) => n)
  // Of a client one names what it calls with and what it gets.
  const client: Client<Tick, string> = await bus.connect('calls', calling)
  const literal: Client<Tick, string> = await bus.connect<Tick, string>('calls', { codec: 'json' })
  // @ts-expect-error a request is a Tick
  await client.call('x')
  for (const one of [queue, worker, server, client, literal]) await one.close()
}

export async function making(bus: Bus): Promise<void> {
  const ringbell = await import('ringbell')
  // @ts-expect-error only a bus makes publishers
  void new ringbell.Publisher()
  // @ts-expect-error only a bus makes subscribers
  void new ringbell.Subscriber()
  // @ts-expect-error Bus.open makes them
  void new ringbell.Bus()
  const publisher = await bus.publisher('ticks')
  using batch = publisher.batch()
  batch.push(new Uint8Array(1))
}

interface Question {
  n: number
}

export async function calling(bus: Bus, schema: Schema<Question>): Promise<void> {
  await using plain = await bus.serve('echo', (request, { signal, connection, timeout, redelivered }) => {
    same<typeof request, Uint8Array>(true)
    same<typeof signal, AbortSignal>(true)
    same<typeof connection, Connection>(true)
    same<typeof timeout, number | undefined>(true)
    return redelivered ? request : Promise.resolve(request)
  })
  same<typeof plain, Server>(true)
  // @ts-expect-error bytes are answered with bytes
  await bus.serve('echo', async () => 'text')
  const client = await bus.connect('echo', { route: 'least-busy', timeout: 10, reconnect: { tries: 3 } })
  same<typeof client, Client>(true)
  same<Awaited<ReturnType<typeof client.call>>, Uint8Array>(true)
  // @ts-expect-error text is no bytes
  await client.call('text')
  // @ts-expect-error no such route
  await bus.connect('echo', { route: 'random' })

  await bus.serve<Question, string>('typed', { codec: 'json' }, async ({ n }) => String(n))
  await bus.serve('shared', { access: { mode: 0o660, group: 'staff', uids: [7], gids: [8] } }, (request) => request)
  // @ts-expect-error a topic's alone
  await bus.serve('shared', { access: { uids: [7], maxGuests: 2 } }, (request) => request)
  await bus.connect('shared', { sendCapacity: 4096, receiveCapacity: 2 ** 20 })
  await bus.serve<Question, number>('typed', { codec: 'json' }, async function* ({ n }) {
    yield n
  })
  // @ts-expect-error that is no answer to a Question
  await bus.serve<Question, string>('typed', { codec: 'json' }, async ({ n }) => n)
  const typed = await bus.connect<Question, string>('typed', { codec: 'json' })
  same<Awaited<ReturnType<typeof typed.call>>, string>(true)
  for await (const piece of typed.stream({ n: 1 })) same<typeof piece, string>(true)
  // @ts-expect-error not a Question
  await typed.call({ m: 1 })
  // @ts-expect-error no such option
  await typed.call({ n: 1 }, { retries: 3 })

  await bus.serve('checked', { codec: 'json', requests: schema }, (request) => {
    same<typeof request, Question>(true)
  })
  const coded = await bus.connect('ticks', { codec: own })
  same<Awaited<ReturnType<typeof coded.call>>, Tick>(true)

  const connection = await client.connected({ signal: AbortSignal.timeout(1) })
  same<typeof connection, Connection>(true)
  for await (const message of connection) same<typeof message, Uint8Array>(true)
  const { data, fds } = await connection.receiveFds()
  await connection.sendFds(data, fds)
  plain.on('connected', (one) => same<typeof one, Connection>(true))
  client.on('failed', (error, service) => same<typeof error, RingbellError>(true) ?? service?.name)
  client.on('disconnected', (_one, reason) => same<typeof reason, 'closed' | 'died' | 'failed'>(true))
  await plain.close({ grace: 1000 })

  const queue = await bus.queue<Tick>('jobs', { codec: 'json', attempts: 2, access: { gids: [8] } })
  if (!queue.push({ n: 1 })) await queue.ready()
  // @ts-expect-error not a Tick
  queue.push({ m: 1 })
  queue.on('deadLetter', ({ n }, error) => same<typeof n, number>(true) ?? error.message)
  queue.on('deadLetter', (_job, _error, letter) => queue.retry(letter, { delay: 5 }) || queue.discard(letter))
  for (const { job, attempts } of queue.deadLetters) {
    same<typeof job, Tick>(true)
    same<typeof attempts, number>(true)
  }
  const { m } = await queue.run<{ m: number }>({ n: 1 }, { delay: 10, signal: AbortSignal.timeout(10) })
  same<typeof m, number>(true)
  const untyped = await queue.run({ n: 1 })
  same<typeof untyped, unknown>(true)
  // @ts-expect-error only the delay
  queue.push({ n: 1 }, { signal: AbortSignal.timeout(10) })
  const [counted] = await bus.counters('jobs', { timeout: 10 })
  if (counted?.queue !== undefined) same<typeof counted.queue.letters, readonly DeadLetterSummary[]>(true)
  queue.on('failed', (error, one) => same<typeof error, RingbellError>(true) ?? one?.peer.pid)
  // @ts-expect-error it is 'failed' everywhere
  queue.on('trouble', (error: RingbellError) => error.code)
  await queue.unref().close({ grace: 1000 })
  const worker = await bus.worker<Tick>('jobs', { codec: 'json', concurrency: 4 }, async ({ n }) => n)
  same<typeof worker, Worker<Tick>>(true)
  await bus.worker('jobs', (value) => same<typeof value, Uint8Array>(true))
}

interface Given {
  n?: number
}

/** Who sends gives the input of the schema, who receives gets its output. */
export async function checking(bus: Bus, schema: StandardSchema<Given, Question>, odd: Codec<unknown>): Promise<void> {
  const json = { codec: 'json' } as const
  const publisher = await bus.publisher('ticks', { ...json, schema, schemaId: 'v1' })
  same<typeof publisher, Publisher<Given>>(true)
  publisher.send({})
  // @ts-expect-error not what the schema takes
  publisher.send({ n: 'x' })
  const coded = await bus.publisher('ticks', { codec: odd, schema })
  same<typeof coded, Publisher<Given>>(true)
  // @ts-expect-error the id of a schema is schemaId
  await bus.publisher('ticks', { ...json, schema: 'v1' })

  const subscriber = await bus.subscriber('ticks', { ...json, schema })
  same<typeof subscriber, Subscriber<Question>>(true)
  const codedSubscriber = await bus.subscriber('ticks', { codec: odd, schema })
  same<typeof codedSubscriber, Subscriber<Question>>(true)

  const queue = await bus.queue('jobs', { ...json, schema, schemaId: 'v1' })
  same<typeof queue, Queue<Given>>(true)
  queue.push({})
  queue.on('deadLetter', (value) => same<typeof value, Given>(true))
  const worker = await bus.worker('jobs', { ...json, schema, schemaId: 'v1' }, (job) => {
    same<typeof job, Question>(true)
  })
  same<typeof worker, Worker<Question>>(true)

  const server = await bus.serve('typed', { ...json, requests: schema, replies: schema }, (request) => {
    same<typeof request, Question>(true)
    return {}
  })
  same<typeof server, Server<Question | Given>>(true)
  // @ts-expect-error not what the schema of replies takes
  await bus.serve('typed', { ...json, requests: schema, replies: schema }, () => ({ n: 'x' }))
  const client = await bus.connect('typed', { ...json, requests: schema, replies: schema })
  same<Awaited<ReturnType<typeof client.call>>, Question>(true)
  await client.call({})
  for await (const piece of client.stream({})) same<typeof piece, Question>(true)
  // @ts-expect-error not what the schema takes
  await client.call({ n: 'x' })
  // @ts-expect-error its schemas are requests, replies and messages
  await bus.connect('typed', { ...json, schema })
}

interface Msg {
  text: string
}

/** Messages of connections. */
export async function messaging(bus: Bus, schema: StandardSchema<Given, Question>): Promise<void> {
  const server = await bus.serve<Msg, Msg>('chat', { codec: 'json' })
  same<typeof server, Server<Msg>>(true)
  server.on('connected', (connection) => {
    connection.send({ text: 'hi' })
    // @ts-expect-error not a Msg
    connection.send({ texts: 'hi' })
  })
  const client = await bus.connect<Msg, Msg>('chat', { codec: 'json' })
  same<typeof client, Client<Msg, Msg, Msg>>(true)
  const connection = await client.connected()
  same<Awaited<ReturnType<typeof connection.receive>>, Msg>(true)
  for await (const message of connection) same<typeof message, Msg>(true)
  const text: Msg = await connection.receive()
  await connection.write(text)

  const checked = await bus.serve('checked', { codec: 'json', messages: schema })
  same<typeof checked, Server<Question, Given>>(true)
  const both = await bus.connect('checked', { codec: 'json', messages: schema })
  const peer = await both.connected()
  same<typeof peer, Connection<Question, Given>>(true)
  peer.send({})
  same<Awaited<ReturnType<typeof peer.receive>>, Question>(true)
  // @ts-expect-error not what the schema takes
  peer.send({ n: 'x' })
  // Calls of one type, messages of another, in each direction.
  const apart = await bus.connect<Question, string, Msg, number>('apart', { codec: 'json' })
  same<typeof apart, Client<Question, string, Msg, number>>(true)
}

export function remote(error: unknown): string | undefined {
  return error instanceof RemoteError ? error.code : undefined
}

export async function sharing(bus: Bus): Promise<void> {
  await using state = await bus.state<{ limit: number }>('limits', { codec: 'json', size: 100 })
  same<typeof state, State<{ limit: number }>>(true)
  same<ReturnType<typeof state.set>, number>(true)
  await using reader = await bus.watchState<{ limit: number }>('limits', { codec: 'json' })
  same<ReturnType<typeof reader.read>, { limit: number } | undefined>(true)
  for await (const value of reader) same<typeof value, { limit: number }>(true)
  await using keyed = await bus.keyedState('limits')
  same<ReturnType<typeof keyed.get>, Uint8Array | undefined>(true)
  await using keys = await bus.watchKeyedState<number>('limits', { codec: 'json' })
  for await (const change of keys.watch({ prefix: 'a' })) same<typeof change, StateChange<number>>(true)
}

export async function finding(bus: Bus): Promise<void> {
  await using claim = await bus.claim('leader', { signal: AbortSignal.timeout(1) })
  same<typeof claim, Claim>(true)
  same<typeof claim.epoch, number>(true)
  same<Awaited<typeof claim.lost>, RingbellError>(true)
  same<Awaited<ReturnType<typeof bus.claim>>, Claim | undefined>(true)
  const available = await bus.claim('leader', { ifAvailable: true })
  same<typeof available, Claim | undefined>(true)
  for await (const state of bus.claims.watch('leader')) same<typeof state, ClaimState>(true)
  same<ReturnType<typeof bus.claims.query>, ClaimState>(true)
  await using member = await bus.join('price', { grace: 5, onStepDown: (term) => same<typeof term, Term>(true) })
  same<typeof member, Member>(true)
  same<Awaited<typeof member.primary>, Term>(true)
  same<typeof member.term, Term | undefined>(true)
  for await (const info of member.roles()) same<typeof info, RoleInfo>(true)
  await bus.serve('price', { member }, (request) => request)
  await bus.publisher('ticks', { member })
  await bus.connect('price', { route: 'primary' })
  await bus.subscriber('ticks', { route: 'primary' })
  // @ts-expect-error a name is no member
  await bus.serve('price', { member: 'price' })
  // @ts-expect-error a claim cannot be taken away from its holder
  await bus.claim('leader', { steal: true })
  same<ReturnType<typeof bus.services.find>, Service | undefined>(true)
  same<Awaited<ReturnType<typeof bus.services.waitFor>>, Service>(true)
  for await (const event of bus.services.watch({ filter: 'sensors.*' })) same<typeof event, ServiceEvent>(true)
  const announced = await bus.announce('api', { endpoints: { http: 'unix:/x' }, metadata: { a: [1] } })
  announced.update({ status: 'ready' })
  // @ts-expect-error addresses are text
  await bus.announce('api', { endpoints: { http: 80 } })
}

export function failing(error: unknown): number | undefined {
  if (error instanceof RingbellError && error.code === 'ERR_RINGBELL_RESOURCE') return error.errno
  // @ts-expect-error there is no such code
  if (error instanceof RingbellError && error.code === 'ERR_RINGBELL_OOPS') return undefined
  return undefined
}

export async function turns(bus: Bus): Promise<void> {
  await using lock = await bus.locks.acquire('a', { mode: 'shared', timeout: 1, signal: AbortSignal.timeout(1) })
  same<typeof lock, Lock>(true)
  same<typeof lock.mode, LockMode>(true)
  same<Awaited<ReturnType<typeof bus.locks.tryAcquire>>, Lock | undefined>(true)
  const always = await bus.locks.request('a', (one) => one.abandoned)
  same<typeof always, boolean>(true)
  const perhaps = await bus.locks.request('a', { ifAvailable: true }, async (one) => one?.name)
  same<typeof perhaps, string | undefined>(true)
  // @ts-expect-error a lock cannot be taken away from its holder
  await bus.locks.request('a', { steal: true }, () => 1)
  same<Awaited<ReturnType<typeof bus.locks.query>>, LocksSnapshot>(true)
  await using handle = await bus.locks.open('a')
  using tried = handle.tryAcquire()
  same<typeof tried, Lock | undefined>(true)
  const semaphore = await bus.semaphore('s', { permits: 2 })
  using permits = await semaphore.acquire(2, { timeout: 1 })
  same<typeof permits, Permits>(true)
  const used = await semaphore.use({ permits: 2 }, async ({ count }) => count)
  same<typeof used, number>(true)
  // @ts-expect-error all name the number of permits
  await bus.semaphore('s')
  const flag = await bus.flag('f')
  same<ReturnType<typeof flag.swap>, boolean>(true)
  const mutex = await bus.shardedMutex('m', { shards: 8 })
  const result = await mutex.withKeys(['a', new Uint8Array(1)], (one) => one.name)
  same<typeof result, string>(true)
}

export async function exporting(bus: Bus, register: Registry, meter: Meter): Promise<void> {
  same<ReturnType<typeof render>, string>(true)
  render(bus.services.list(), 'env', { services: ['a', 'b.*'], endpoint: 'http' })
  // @ts-expect-error there is no such format
  render([], 'xml')
  await using exporter = await exportTo(bus, { format: 'hosts', file: '/etc/hosts.d/bus' })
  same<typeof exporter.closed, boolean>(true)
  // @ts-expect-error a format is needed
  await exportTo(bus, { file: 'x' })
  // The real register and meter are what is asked for.
  prometheusMetrics(bus, { register })
  prometheusMetrics([bus, await bus.join('group'), await bus.subscriber('ticks')], { register }).close()
  openTelemetryMetrics(await bus.connect('api'), { meter })
  // @ts-expect-error a register is needed
  prometheusMetrics(bus)
  // @ts-expect-error a meter is no register
  prometheusMetrics(bus, { register: meter })
}
