/** Measures round trips: the first process sends a message and waits for the answer of the second before it sends the next. */
import { createHistogram } from 'node:perf_hooks'
import type { Bus, Publisher, Subscriber } from '../../index.js'
import { withSubscriber } from '../meeting.js'
import { type Part, type RoundTrips, type RoundTripTask, TOPIC } from './tasks.js'

/** A warm-up of this part of the time is not counted, because the code is not compiled yet and waiting has not adapted yet. */
const WARM_UP = 0.25

export async function ask(bus: Bus, { task, size, duration }: Part): Promise<RoundTrips> {
  const { wait } = task as RoundTripTask
  const publisher = await bus.publisher(TOPIC.there, { wait })
  const subscriber = await bus.subscriber(TOPIC.back, { wait })
  await Promise.all([subscriber.attached(), withSubscriber(publisher)])
  const message = Buffer.alloc(size)
  await trips(publisher, subscriber, message, performance.now() + duration * WARM_UP)
  const histogram = createHistogram()
  const rounds = await trips(publisher, subscriber, message, performance.now() + duration, (ns) => histogram.record(ns))
  return { rounds, p50: histogram.percentile(50), p99: histogram.percentile(99) }
}

async function trips(
  publisher: Publisher,
  subscriber: Subscriber,
  message: Buffer,
  end: number,
  record: (ns: bigint) => void = () => {},
): Promise<number> {
  for (let round = 0; ; round++) {
    if (performance.now() >= end) return round
    const begin = process.hrtime.bigint()
    message.writeUInt32LE(round)
    publisher.send(message)
    const answer = subscriber.tryReceive() ?? (await subscriber.receive())
    record(process.hrtime.bigint() - begin)
    const { data } = answer
    const back = new DataView(data.buffer, data.byteOffset, data.byteLength).getUint32(0, true)
    if (back !== round) throw new Error(`answer ${back} to question ${round}`)
  }
}

/** Sends back everything that comes, until the other process leaves. */
export async function answer(bus: Bus, { task }: Part): Promise<void> {
  const { wait } = task as RoundTripTask
  const publisher = await bus.publisher(TOPIC.back, { wait })
  const subscriber = await bus.subscriber(TOPIC.there, { wait })
  subscriber.on('ended', () => setImmediate(() => void subscriber.close()))
  for await (const { data } of subscriber) publisher.send(data)
}
