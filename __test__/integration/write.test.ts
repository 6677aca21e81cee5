/** `write()`: what aborting, closing and dying in the middle of a large message do, and who is served in which order. */
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { setImmediate as turn } from 'node:timers/promises'
import test from 'ava'
import type { ExecutionContext } from 'ava'
import type { Loan, Publisher, PublisherOptions, Subscriber, SubscriberOptions } from 'ringbell'
import { blob, isBlob, lengthOf } from '../fixtures/blob.mjs'
import { peer } from '../helpers/peer.js'
import { codeOf, place, type Place, until } from '../helpers/place.js'

const CAPACITY = 16_384
const LARGE = 200_000
const TOO_LARGE = 'ERR_RINGBELL_MESSAGE_TOO_LARGE'

interface Scene {
  at: Place
  publisher: Publisher
  subscriber: Subscriber
  /** What the subscriber was told to have missed. */
  missed: () => number
}

async function scene(
  t: ExecutionContext,
  options: PublisherOptions & { codec?: 'bytes' } = {},
  reading: SubscriberOptions & { codec?: 'bytes' } = {},
): Promise<Scene> {
  const at = place(t)
  const publisher = await (await at.bus()).publisher('blobs', { capacity: CAPACITY, ...options })
  const subscriber = await (await at.bus()).subscriber('blobs', reading)
  let missed = 0
  subscriber.on('missed', (_, messages) => (missed += messages))
  await subscriber.attached()
  return { at, publisher, subscriber, missed: () => missed }
}

/** Reads until a message of this length has come, and says which others came before. */
async function upTo(subscriber: Subscriber, length: number): Promise<number[]> {
  const lengths: number[] = []
  for await (const { byteLength } of subscriber) {
    if (byteLength === length) return lengths
    lengths.push(byteLength)
  }
  throw new Error('it has ended')
}

/** So many turns of the event loop, during which the subscriber takes what there is. */
async function turns(subscriber: Subscriber, count: number): Promise<number> {
  let received = 0
  for (let i = 0; i < count; i++) {
    await turn()
    if (subscriber.tryReceive() !== undefined) received++
  }
  return received
}

test('an aborted write is sent whole or missed, and the next one arrives', async (t) => {
  const { publisher, subscriber, missed } = await scene(t)
  const outcomes = { sent: 0, aborted: 0 }
  let begun = 0
  // So long that the last ones are done before the signal fires.
  for (let moment = 0; outcomes.sent < 3; moment++) {
    const controller = new AbortController()
    const before = publisher.stats().fragments
    const written = publisher.write(blob(moment, LARGE), { signal: controller.signal }).then(
      () => 'sent' as const,
      (error: { name: string }) => (t.is(error.name, 'AbortError'), 'aborted' as const),
    )
    let received = await turns(subscriber, moment)
    controller.abort()
    const outcome = await written
    outcomes[outcome]++
    t.true(publisher.stats().fragments > before, 'it began at once')
    if (outcome === 'aborted') begun++
    const reading = upTo(subscriber, 1)
    await publisher.write(new Uint8Array(1))
    received += (await reading).length
    t.is(received, outcome === 'sent' ? 1 : 0, `moment ${moment}`)
  }
  t.true(outcomes.aborted > 3)
  await until(() => missed() === begun)
  const { messages } = publisher.stats()
  t.deepEqual([subscriber.stats().received, subscriber.stats().missed], [messages, begun])
})

test('a signal that has fired before is an AbortError, and nothing begins', async (t) => {
  const { publisher } = await scene(t)
  await t.throwsAsync(publisher.write(blob(0, LARGE), { signal: AbortSignal.abort() }), { name: 'AbortError' })
  t.is(publisher.stats().fragments, 0)
  t.true(publisher.send(new Uint8Array(1)))
})

test('a write that is aborted while it waits in line sends nothing', async (t) => {
  const { publisher, subscriber, missed } = await scene(t)
  const controller = new AbortController()
  const first = publisher.write(blob(0, LARGE))
  const second = publisher.write(blob(1, LARGE + 1), { signal: controller.signal })
  const third = publisher.write(blob(2, LARGE + 2))
  controller.abort()
  await t.throwsAsync(second, { name: 'AbortError' })
  t.deepEqual(await upTo(subscriber, LARGE + 2), [LARGE])
  await Promise.all([first, third])
  t.is(missed(), 0)
})

test('writes, and what is sent after them, come in order', async (t) => {
  const { publisher, subscriber } = await scene(t)
  const order: string[] = []
  const note = (what: string) => () => void order.push(what)
  const done = [
    publisher.write(blob(0, LARGE)).then(note('large')),
    (async () => {
      await publisher.ready({ bytes: 10 })
      order.push('ready')
      t.true(publisher.send(blob(1, 10)), 'who was told of room finds it')
    })(),
    publisher.write(blob(2, 20)).then(note('small')),
    publisher.write(blob(3, LARGE + 1)).then(note('large again')),
  ]
  t.false(publisher.send(blob(9, 1)), 'a write comes first')
  t.is(publisher.loan(1), undefined)
  t.false(publisher.batch().push(blob(9, 1)))
  t.deepEqual(await upTo(subscriber, LARGE + 1), [LARGE, 10, 20])
  await Promise.all(done)
  t.deepEqual(order, ['large', 'ready', 'small', 'large again'])
  t.true(publisher.send(blob(4, 1)))
})

test('a small write waits for room, and nothing overtakes it', async (t) => {
  const { publisher, subscriber } = await scene(t)
  let sent = 0
  while (publisher.send(new Uint8Array(3000))) sent++
  const written = publisher.write(new Uint8Array(2999))
  t.false(publisher.send(new Uint8Array(1)), 'there would be room for this one')
  t.is((await upTo(subscriber, 2999)).length, sent)
  await written
  t.true(publisher.send(new Uint8Array(1)))
})

test('closing in the middle rejects all writes, and no part is received', async (t) => {
  const { publisher, subscriber, missed } = await scene(t)
  const ended = new Promise<unknown>((resolve) => subscriber.on('ended', (_, reason) => resolve(reason)))
  const writes = [publisher.write(blob(0, LARGE)), publisher.write(blob(1, LARGE)), publisher.write(blob(2, 1))]
  const reading = codeOf(() => subscriber.receive())
  await turn()
  await publisher.close()
  for (const write of writes) await t.throwsAsync(write, { code: 'ERR_RINGBELL_CLOSED' })
  await t.throwsAsync(publisher.write(blob(3, 1)), { code: 'ERR_RINGBELL_CLOSED' })
  await ended
  t.is(missed(), 0)
  await subscriber.close()
  t.is(await reading, 'ERR_RINGBELL_CLOSED')
})

test('a subscriber closed or killed in the middle does not block a write', async (t) => {
  const { at, publisher, subscriber } = await scene(t)
  const other = peer(at, 'subscribe.mjs', ['blobs'])
  await other.tells('attached')
  const written = publisher.write(blob(0, LARGE))
  await turns(subscriber, 3)
  other.kill()
  await other.end
  await turns(subscriber, 3)
  await subscriber.close()
  await written
  t.is(publisher.stats().messages, 1)
})

test('a publisher killed in the middle leaves only whole messages', async (t) => {
  const at = place(t)
  const subscriber = await (await at.bus()).subscriber('blobs')
  for (let round = 0; round < 5; round++) {
    const other = peer(at, 'write.mjs', ['blobs', JSON.stringify({ capacity: CAPACITY })])
    const ended = new Promise((resolve) => subscriber.once('ended', resolve))
    await other.tells('ready')
    await subscriber.attached()
    let number = 0
    const over = new AbortController()
    const reading = (async () => {
      for await (const { data, sequence } of subscriber.messages({ signal: over.signal })) {
        if (sequence !== number || !isBlob(data, number, lengthOf(number))) throw new Error(`message ${number} is torn`)
        if (++number === 5 + round * 4) other.kill()
      }
    })()
    await Promise.race([ended, reading])
    over.abort()
    await t.throwsAsync(reading, { name: 'AbortError' })
    await other.end
  }
  t.is(subscriber.stats().missed, 0)
})

test('a stalled subscriber is evicted, and the write goes on', async (t) => {
  const { at, publisher, subscriber } = await scene(t, { evictAfter: 1000 })
  const stalled = await (await at.bus()).subscriber('blobs')
  await stalled.attached()
  const evicted = new Promise((resolve) => stalled.on('evicted', resolve))
  const reading = subscriber.receive()
  await publisher.write(blob(0, LARGE))
  t.true(isBlob((await reading).data, 0, LARGE))
  t.is(stalled.tryReceive(), undefined, 'no part of it')
  await evicted
  t.is(publisher.stats().evicted, 1)
})

test('a subscriber misses a message over its limit; the others get it', async (t) => {
  const { at, publisher, subscriber, missed } = await scene(t, {}, { maxMessage: LARGE - 1 })
  const other = await (await at.bus()).subscriber('blobs')
  await other.attached()
  const readings = Promise.all([upTo(subscriber, 1), upTo(other, 1)])
  for (const length of [LARGE, LARGE - 1, 1]) await publisher.write(blob(0, length))
  t.deepEqual(await readings, [[LARGE - 1], [LARGE, LARGE - 1]])
  await until(() => missed() === 1)
  for (const maxMessage of [0, 2 ** 30 + 1, 1.5, '1' as never])
    t.is(await codeOf(async () => (await at.bus()).subscriber('blobs', { maxMessage })), 'ERR_RINGBELL_INVALID_OPTION')
})

test('limits on topics that drop, and above 1 GiB, are reported', async (t) => {
  for (const overflow of ['drop-oldest', 'drop-newest'] as const) {
    const { publisher, subscriber } = await scene(t, { overflow })
    t.is(await codeOf(() => publisher.write(blob(0, LARGE))), TOO_LARGE)
    await publisher.write(blob(0, publisher.maxMessage))
    t.is(subscriber.tryReceive()?.byteLength, publisher.maxMessage)
    t.true(publisher.send(new Uint8Array(1)))
    await publisher.close()
    await subscriber.close()
  }
  const { publisher } = await scene(t)
  t.is(await codeOf(() => publisher.write(new Uint8Array(2 ** 30 + 1))), TOO_LARGE)
  t.true(publisher.send(new Uint8Array(1)), 'nothing was begun')
  t.throws(() => publisher.send(blob(0, LARGE)), { message: /write/ })
})

test('a write that cannot be sent is rejected, and the next one is sent', async (t) => {
  const { publisher, subscriber, missed } = await scene(t)
  for (const bad of ['text', undefined, new ArrayBuffer(LARGE), {}])
    t.is(await codeOf(() => publisher.write(bad as never)), 'ERR_RINGBELL_CODEC')
  const loan = publisher.loan(1)
  t.is(await codeOf(() => publisher.write(blob(0, LARGE))), 'ERR_RINGBELL_WINDOW_OPEN')
  t.is(await codeOf(() => publisher.write(blob(0, 1))), 'ERR_RINGBELL_WINDOW_OPEN')
  loan?.abandon()
  // Somebody takes the bytes away while they are being sent.
  const bytes = new Uint8Array(LARGE)
  const written = codeOf(() => publisher.write(bytes))
  structuredClone(bytes, { transfer: [bytes.buffer] })
  const next = publisher.write(blob(1, LARGE))
  const reading = subscriber.receive()
  t.is(await written, 'ERR_RINGBELL_INVALID_OPTION')
  await next
  t.true(isBlob((await reading).data, 1, LARGE))
  await until(() => missed() === 1)
  // A view of the ring itself would be overwritten on the way.
  const lent = publisher.loan(1) as Loan
  const own = new Uint8Array(lent.data.buffer, 0, CAPACITY)
  t.is(await codeOf(() => publisher.write(own)), 'ERR_RINGBELL_INVALID_OPTION')
})

test('timers run while a large message is written and read in one process', async (t) => {
  const { publisher, subscriber } = await scene(t, { capacity: 65_536 })
  let ticks = 0
  const timer = setInterval(() => ticks++, 1)
  const size = 32 * 2 ** 20
  const [message] = await Promise.all([subscriber.receive(), publisher.write(blob(0, size))])
  clearInterval(timer)
  t.true(isBlob(message.data, 0, size))
  t.true(ticks > 0)
})

test('an endless loop of small writes lets others run', async (t) => {
  const { publisher } = await scene(t, { overflow: 'drop-oldest' })
  let over = false
  setTimeout(() => (over = true), 1)
  while (!over) await publisher.write(new Uint8Array(8))
  t.pass()
})

test('values and streams of any size', async (t) => {
  const bus = await place(t).bus()
  const publisher = await bus.publisher<{ text: string }>('values', { codec: 'json', capacity: CAPACITY })
  const subscriber = await bus.subscriber<{ text: string }>('values', { codec: 'json' })
  await subscriber.attached()
  const text = 'x'.repeat(LARGE)
  const [message] = await Promise.all([subscriber.receive(), publisher.write({ text })])
  t.is(message.value.text, text)

  const bytes = await bus.publisher('stream', { capacity: CAPACITY })
  const reader = await bus.subscriber('stream')
  await reader.attached()
  const chunks = [blob(0, 10), blob(1, LARGE), blob(2, 30)]
  const reading = (async () => {
    const got: Buffer[] = []
    for await (const chunk of reader.readable() as AsyncIterable<Buffer>) {
      got.push(chunk)
      if (got.length === 3) break
    }
    return got
  })()
  await pipeline(Readable.from(chunks), bytes.writable())
  t.true((await reading).every((chunk, number) => chunks[number]?.equals(chunk) === true))
})
