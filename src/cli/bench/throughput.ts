/**
 * Measures one direction, as fast as it goes. The first process sends numbered messages for a while and closes. The
 * second one checks the number, the first and the last byte of each, and counts until it has received everything. The
 * time runs from the first message to the last.
 */
import type { Bus, Publisher } from '../../index.js'
import { withSubscriber } from '../meeting.js'
import { CAPACITY, type Part, type Throughput, type ThroughputTask, TOPIC } from './tasks.js'

/** Messages between two readings of the clock. */
const ROUND = 256

export async function sendStream(bus: Bus, { task, size, duration }: Part): Promise<void> {
  const publisher = await bus.publisher(TOPIC.stream, { capacity: CAPACITY })
  await withSubscriber(publisher)
  const end = performance.now() + duration
  if ((task as ThroughputTask).sending === 'send') await sendEach(publisher, size, end)
  else await sendBatches(publisher, size, end)
  await publisher.close()
}

async function sendEach(publisher: Publisher, size: number, end: number): Promise<void> {
  const message = Buffer.alloc(size)
  for (let sequence = 0; performance.now() < end;) {
    for (let i = 0; i < ROUND; i++, sequence++) {
      stamp(message, 0, size, sequence)
      while (!publisher.send(message)) await publisher.ready()
    }
  }
}

async function sendBatches(publisher: Publisher, size: number, end: number): Promise<void> {
  const writer = publisher.batch()
  for (let sequence = 0; performance.now() < end;) {
    for (let i = 0; i < ROUND; i++, sequence++) {
      let at = writer.reserveAt(size)
      while (at < 0) {
        await publisher.ready()
        at = writer.reserveAt(size)
      }
      stamp(writer.bytes, at, size, sequence)
    }
    writer.commit()
  }
}

export async function receiveStream(bus: Bus, { task, size }: Part): Promise<Throughput> {
  const subscriber = await bus.subscriber(TOPIC.stream, { from: 'earliest' })
  subscriber.on('ended', () => setImmediate(() => void subscriber.close()))
  let messages = 0
  let bytes = 0
  let begin = 0
  let end = 0
  for await (const batch of subscriber.batches({ lifetime: (task as ThroughputTask).lifetime })) {
    if (messages === 0) begin = performance.now()
    for (let i = 0; i < batch.length; i++, messages++) {
      check(batch.bytes, batch.offset(i), batch.byteLength(i), size, messages)
      bytes += batch.byteLength(i)
    }
    end = performance.now()
  }
  return { messages, bytes, seconds: (end - begin) / 1000 }
}

function stamp(bytes: Uint8Array, at: number, size: number, sequence: number): void {
  bytes[at] = sequence
  bytes[at + 1] = sequence >>> 8
  bytes[at + 2] = sequence >>> 16
  bytes[at + 3] = sequence >>> 24
  bytes[at + size - 1] = sequence
}

function check(bytes: Uint8Array, at: number, length: number, size: number, sequence: number): void {
  const number = (bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24)) >>> 0
  if (length !== size || number !== sequence >>> 0 || bytes[at + size - 1] !== (sequence & 0xff)) {
    throw new Error(`message ${sequence} is wrong: number ${number}, ${length} bytes`)
  }
}
