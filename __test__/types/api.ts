// Compiled, never run: what users may write, and with @ts-expect-error what they may not.
import { bytes, RingbellError } from 'ringbell'
import type {
  Batch,
  Bus,
  Codec,
  Message,
  Publisher,
  PublisherOptions,
  Service,
  ServiceEvent,
  Subscriber,
  SubscriberOptions,
  WaitOptions,
} from 'ringbell'

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
  plain.on('failed', (service, error) => same<typeof error, RingbellError>(true) ?? service.name)
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

export async function finding(bus: Bus): Promise<void> {
  same<ReturnType<typeof bus.services.find>, Service | undefined>(true)
  same<Awaited<ReturnType<typeof bus.services.waitFor>>, Service>(true)
  for await (const event of bus.services.watch({ filter: 'sensors.*' })) same<typeof event, ServiceEvent>(true)
  const announced = await bus.announce('api', { endpoints: { http: 'unix:/x' }, metadata: { a: [1] } })
  announced.update({ status: 'ready' })
  // @ts-expect-error addresses are text
  await bus.announce('api', { endpoints: { http: 80 } })
}

export function failing(error: unknown): string | undefined {
  if (error instanceof RingbellError && error.code === 'ERR_RINGBELL_RESOURCE') return error.errno
  // @ts-expect-error there is no such code
  if (error instanceof RingbellError && error.code === 'ERR_RINGBELL_OOPS') return undefined
  return undefined
}
