/** The adapters to Node's streams, with real streams on the other side and a ring that is too small for what flows. */
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import test from 'ava'
import type { Message } from 'ringbell'
import { codeOf, place } from '../helpers/place.js'

test('bytes through a Writable and a Readable, with back-pressure', async (t) => {
  const bus = await place(t).bus()
  const publisher = await bus.publisher('file', { capacity: 16_384 })
  const subscriber = await bus.subscriber('file')
  await subscriber.attached()
  const source = randomBytes(3_000_000)
  const chunks = function* (): Generator<Buffer> {
    for (let at = 0, length = 1; at < source.length; at += length, length = (length * 7) % 7919 || 1)
      yield source.subarray(at, at + length)
  }
  const readable = subscriber.readable()
  const writing = pipeline(Readable.from(chunks()), publisher.writable())
  const hash = createHash('sha256')
  let bytes = 0
  for await (const chunk of readable as AsyncIterable<Uint8Array>) {
    hash.update(chunk)
    if ((bytes += chunk.byteLength) === source.length) break
  }
  await writing
  t.is(hash.digest('hex'), createHash('sha256').update(source).digest('hex'))
  t.true(publisher.stats().full > 0)
  t.false(publisher.closed)
  t.false(subscriber.closed)
  t.is(subscriber.tryReceive(), undefined)
})

test('values in object mode', async (t) => {
  const bus = await place(t).bus()
  const publisher = await bus.publisher<number>('numbers', { codec: 'json' })
  const subscriber = await bus.subscriber<number>('numbers', { codec: 'json' })
  await subscriber.attached()
  const numbers = Array.from({ length: 500 }, (_, number) => number)
  await pipeline(Readable.from(numbers), publisher.writable())
  const got: number[] = []
  for await (const message of subscriber.readable({ objectMode: true }) as AsyncIterable<Message<number>>) {
    got.push(message.value)
    if (got.length === 500) break
  }
  t.deepEqual(got, numbers)
})

test('Readable.from takes a subscriber as it is; closing it ends the stream', async (t) => {
  const bus = await place(t).bus()
  const publisher = await bus.publisher('ticks')
  const subscriber = await bus.subscriber('ticks')
  await subscriber.attached()
  publisher.send(new Uint8Array([7]))
  let got = 0
  for await (const message of Readable.from(subscriber) as AsyncIterable<Message>) {
    t.is(message.data[0], 7)
    got++
    await subscriber.close()
  }
  t.is(got, 1)
})

test('a reader that comes when the stream is just full is served', async (t) => {
  const bus = await place(t).bus()
  const publisher = await bus.publisher('ticks')
  const subscriber = await bus.subscriber('ticks')
  await subscriber.attached()
  for (let number = 0; number < 500; number++) publisher.send(new Uint8Array([number & 255]))
  const readable = subscriber.readable({ highWaterMark: 1 })
  let got = 0
  // At every pace: so many promise jobs between two reads.
  for (let round = 0; round < 20_000 && got < 500; round++) {
    const chunk = readable.read() as Uint8Array | null
    if (chunk !== null) t.is(chunk[0], got++ & 255)
    for (let jobs = round % 7; jobs > 0; jobs--) await Promise.resolve()
    if (round % 50 === 49) await new Promise((done) => setImmediate(done))
  }
  t.is(got, 500)
  readable.destroy()
})

test('stream options that are refused leave the subscriber to others', async (t) => {
  const bus = await place(t).bus()
  const publisher = await bus.publisher('ticks')
  const subscriber = await bus.subscriber('ticks')
  await subscriber.attached()
  t.throws(() => subscriber.readable({ highWaterMark: -1 }))
  publisher.send(new Uint8Array(3))
  t.is((await subscriber.receive()).byteLength, 3)
  const iteration = subscriber.messages()
  const [error] = (await once(subscriber.readable().resume(), 'error')) as [Error]
  t.is(
    await codeOf(() => {
      throw error
    }),
    'ERR_RINGBELL_BUSY',
  )
  await iteration.return?.()
})

test('destroying a stream ends its wait for room or messages', async (t) => {
  const bus = await place(t).bus()
  const publisher = await bus.publisher('ticks', { capacity: 4096 })
  const subscriber = await bus.subscriber('ticks')
  await subscriber.attached()
  const writable = publisher.writable()
  const chunk = new Uint8Array(1000)
  const written = new Promise<string | undefined>((resolve) => {
    while (
      writable.write(chunk, (error) => error && resolve((error as { code?: string }).code)) &&
      !writable.writableNeedDrain
    )
      if (publisher.stats().full > 0) break
  })
  writable.on('error', () => undefined)
  writable.destroy()
  t.is(typeof (await written), 'string')
  while (subscriber.tryReceive() !== undefined);
  const readable = subscriber.readable()
  readable.resume()
  // If its time slice is used up by then, it waits only after a further turn of the event loop.
  for (let turn = 0; turn < 10; turn++) await new Promise((done) => setImmediate(done))
  t.is(await codeOf(() => subscriber.receive()), 'ERR_RINGBELL_BUSY')
  readable.destroy()
  publisher.send(chunk)
  t.is((await subscriber.receive()).byteLength, 1000)
})
