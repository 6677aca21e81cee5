/** Acknowledgements and durable positions, on every rung: what comes again, what is marked, and who is kept waiting. */
import { once } from 'node:events'
import test from 'ava'
import type { ExecutionContext } from 'ava'
import type { Bus, Message, Publisher, Rung, Subscriber, SubscriberOptions } from 'ringbell'
import { isPayload, payload } from '../fixtures/payload.mjs'
import { codeOf, place, until } from '../helpers/place.js'
import { lifetimes, rungs } from '../helpers/rungs.js'

interface Stage {
  bus: Bus
  publisher: Publisher
  readonly open: (options?: SubscriberOptions) => Promise<Subscriber>
}

async function stage(t: ExecutionContext, acquire: Rung, publisherOptions = {}): Promise<Stage> {
  const at = place(t)
  const bus = await at.bus()
  const publisher = await bus.publisher('ticks', { capacity: 32_768, ...publisherOptions })
  return {
    bus,
    publisher,
    async open(options = {}) {
      const subscriber = await bus.subscriber('ticks', { acquire, ack: 'deferred', ...options })
      await subscriber.attached()
      return subscriber
    },
  }
}

function send(publisher: Publisher, count: number): void {
  const first = publisher.stats().messages
  for (let number = first; number < first + count; number++)
    if (!publisher.send(payload(number))) throw new Error(`full at ${number}`)
}

/** The next `count` messages. Over a stream they may arrive late, and there is no event for that, so the caller says how many come. */
async function takeAny(subscriber: Subscriber, count: number): Promise<Message[]> {
  const messages: Message[] = []
  while (messages.length < count) {
    const message = subscriber.tryReceive()
    if (message !== undefined) messages.push(message)
    else await new Promise((done) => setImmediate(done))
  }
  return messages
}

async function take(subscriber: Subscriber, count: number): Promise<Message[]> {
  const messages = await takeAny(subscriber, count)
  for (const { data, sequence } of messages)
    if (!isPayload(data, sequence)) throw new Error(`message ${sequence} is wrong`)
  return messages
}

const marked = (messages: Message[]): [number, boolean][] =>
  messages.map(({ sequence, redelivered }) => [sequence, redelivered])

for (const rung of rungs) {
  test(`${rung}: each mode keeps the publisher waiting, and rings it`, async (t) => {
    const { publisher, open } = await stage(t, rung)
    for (const ack of ['immediate', 'batch', 'deferred'] as const) {
      const subscriber = await open({ ack })
      const first = publisher.stats().messages
      const flow = (async () => {
        for (let n = first; n < first + 5000; n++) while (!publisher.send(payload(n))) await publisher.ready()
      })()
      let next = first
      for await (const message of subscriber) {
        if (message.sequence !== next++) throw new Error(`${ack}: got ${message.sequence}`)
        if (ack === 'deferred' && next % 50 === 0) t.true(subscriber.ack(message))
        if (next === first + 5000) break
      }
      await flow
      const { acks, missed } = subscriber.stats()
      t.is(missed, 0)
      if (ack === 'immediate') t.deepEqual(acks, { pending: 0, flushed: 0, redelivered: 0 })
      else if (ack === 'deferred') t.like(acks, { pending: 0, flushed: 100 })
      else t.true(acks.flushed >= 5000 / 256)
      await subscriber.close()
    }
  })

  test(`${rung}: messages larger than the ring are acknowledged`, async (t) => {
    const { publisher, open } = await stage(t, rung)
    for (const ack of ['batch', 'deferred'] as const) {
      const subscriber = await open({ ack, durable: ack })
      const first = publisher.stats().messages
      const flow = (async () => {
        for (let n = 0; n < 6; n++) {
          await publisher.write(Buffer.alloc(100_000, n))
          while (!publisher.send(Buffer.alloc(10, n))) await publisher.ready()
        }
      })()
      let n = 0
      for await (const message of subscriber) {
        t.is(message.sequence, first + n)
        t.true(message.data.every((byte) => byte === n >> 1))
        if (ack === 'deferred') t.true(subscriber.ack(message))
        if (++n === 12) break
      }
      await flow
      t.is(subscriber.stats().missed, 0)
      await subscriber.forget()
    }
  })

  test(`${rung}: a durable subscriber gets unacknowledged messages again`, async (t) => {
    const { publisher, open } = await stage(t, rung)
    const first = await open({ durable: 'billing' })
    t.is(first.publishers[0]?.position, 'new')
    send(publisher, 10)
    // Out of the ring come all ten at once, over a stream as they arrive.
    const messages = await take(first, rung === 'stream' ? 10 : 6)
    t.true(messages.every(({ redelivered }) => !redelivered))
    t.true(first.ack(messages[3] as Message))
    t.false(first.ack(messages[1] as Message), 'cumulative: that was no news')
    t.false(first.ack(3))
    t.deepEqual(first.stats().acks, { pending: 6, flushed: 1, redelivered: 0 })
    await first.close()
    t.like(publisher.stats().subscribers[0], { state: 'parked', durable: true, acks: { pending: 6 } })
    t.is(publisher.subscribers, 0)

    const second = await open({ durable: 'billing', from: 'earliest', ack: 'batch' })
    t.is(second.publishers[0]?.position, 'resumed')
    send(publisher, 2)
    // All ten had been copied by the first one.
    t.deepEqual(
      marked(await take(second, 8)),
      Array.from({ length: 8 }, (_, n) => [n + 4, n + 4 < 10]),
    )
    t.is(second.stats().acks.redelivered, 6)
    t.is(second.tryReceive(), undefined, 'asking once more acknowledges all of them')
    await second.close()
    const third = await open({ durable: 'billing' })
    t.is(third.tryReceive(), undefined)
    t.like(publisher.stats().subscribers[0], { state: 'active', acks: { pending: 0 } })
    await third.forget()
    await third.forget()
    t.deepEqual(publisher.stats().subscribers, [])
    t.is((await open({ durable: 'billing' })).publishers[0]?.position, 'new')
  })

  test(`${rung}: a batch is acknowledged before sleep and at the interval`, async (t) => {
    const { publisher, open } = await stage(t, rung)
    const subscriber = await open({ ack: 'batch', wait: 'sleep', durable: 'idle', ackInterval: 50 })
    const pending = (): number => subscriber.stats().acks.pending
    send(publisher, 5)
    const listening = subscriber.listen(() => undefined)
    await until(() => subscriber.stats().received === 5 && pending() === 0)
    listening.stop()
    send(publisher, 5)
    await take(subscriber, 5)
    // Over a stream they may have come one by one.
    if (rung !== 'stream') t.is(pending(), 5)
    // Four are done. The timer tells of them, with nobody reading.
    await until(() => pending() === 1)
    const { flushed } = subscriber.stats().acks
    await subscriber.close()
    t.like(publisher.stats().subscribers[0], { state: 'parked', acks: { pending: 1, flushed } })
  })

  test(`${rung}: borrowed and leased batches stay until they are acknowledged`, async (t) => {
    const { publisher, open } = await stage(t, rung, { capacity: 4096 })
    for (const lifetime of lifetimes(rung).filter((lifetime) => lifetime !== 'owned')) {
      const subscriber = await open({ durable: lifetime })
      while (publisher.send(Buffer.alloc(300)));
      const sent = publisher.stats().messages
      const batch = await until(() => subscriber.tryReceiveBatch({ lifetime }))
      const last = batch.sequence(batch.length - 1)
      batch.release()
      t.throws(() => subscriber.ack(batch), { code: 'ERR_RINGBELL_RELEASED' })
      t.false(publisher.send(Buffer.alloc(300)), 'given back is not done')
      t.true(subscriber.ack(last))
      await until(() => publisher.send(Buffer.alloc(300)))
      await subscriber.close()
      const again = await open({ durable: lifetime })
      t.deepEqual(
        (await takeAny(again, sent - last)).map(({ sequence }) => sequence),
        Array.from({ length: sent - last }, (_, n) => last + 1 + n),
      )
      await again.forget()
    }
  })

  test(`${rung}: a lent batch is acknowledged when the next is asked for`, async (t) => {
    const { publisher, open } = await stage(t, rung)
    const subscriber = await open({ ack: 'batch', durable: 'lent' })
    send(publisher, 40)
    let done = 0
    let inHand = 0
    for await (const batch of subscriber.batches({ lifetime: 'borrowed' })) {
      if (done === 0) {
        t.is(subscriber.stats().acks.pending, batch.length)
        done = batch.length
        send(publisher, 40)
      } else {
        // Over a stream the first may have been fewer than are told of at once.
        const untold = subscriber.stats().acks.pending - batch.length
        t.true(untold === 0 || (rung === 'stream' && untold < 32), 'the first is done')
        inHand = batch.length
        break
      }
    }
    await subscriber.close()
    const again = await open({ durable: 'lent' })
    const messages = await take(again, 80 - done)
    t.is(messages.filter(({ redelivered }) => redelivered).length, inHand, 'the one that the loop broke off in')
    if (rung !== 'stream') t.is(messages.length, inHand)
  })

  test(`${rung}: a parked position keeps room until evictAfter`, async (t) => {
    const { publisher, open } = await stage(t, rung, { evictAfter: 100 })
    const first = await open({ durable: 'billing' })
    send(publisher, 3)
    t.true(first.ack((await take(first, 3))[1] as Message))
    await first.close()
    while (publisher.send(Buffer.alloc(300)));
    t.is(publisher.stats().subscribers[0]?.state, 'parked')
    await publisher.ready({ bytes: 300 })
    t.is(publisher.stats().evicted, 1)
    const sent = publisher.stats().messages
    const second = await open({ durable: 'billing' })
    t.is(second.publishers[0]?.position, 'lost')
    const missed = once(second, 'missed')
    publisher.send(Buffer.alloc(300))
    t.is((await second.receive()).sequence, sent)
    t.is(second.tryReceive(), undefined)
    t.is((await missed)[1], sent - 2, 'all that was not acknowledged')
  })

  test(`${rung}: a durable name has one holder, and the second waits`, async (t) => {
    const { bus, publisher, open } = await stage(t, rung)
    const first = await open({ durable: 'billing' })
    const second = await bus.subscriber('ticks', { acquire: rung, durable: 'billing', ack: 'deferred' })
    const [error] = await once(second, 'failed')
    t.is(error.code, 'ERR_RINGBELL_NAME_TAKEN')
    const other = await open({ durable: 'audit' })
    send(publisher, 2)
    await take(other, 2)
    first.ack((await take(first, 2))[0] as Message)
    await first.close()
    await second.attached()
    t.deepEqual(marked(await take(second, 1)), [[1, true]])
  })

  test(`${rung}: a position ends with the publisher's instance`, async (t) => {
    const { bus, publisher, open } = await stage(t, rung)
    const subscriber = await open({ durable: 'billing' })
    send(publisher, 3)
    const [message] = await take(subscriber, 3)
    const ended = once(subscriber, 'ended')
    await publisher.close()
    await ended
    t.false(subscriber.ack(message as Message), 'nobody is left to be told')
    const attached = once(subscriber, 'attached')
    const next = await bus.publisher('ticks')
    t.is((await attached)[0].position, 'new')
    next.send(payload(0))
    t.deepEqual(marked([await subscriber.receive()]), [[0, false]])
  })
}

test('a position goes from one rung to another and back', async (t) => {
  const at = place(t)
  const bus = await at.bus()
  const publisher = await bus.publisher('ticks', { capacity: 32_768 })
  let sent = 0
  for (const acquire of rungs.flatMap((from) => rungs.flatMap((to) => [from, to]))) {
    const subscriber = await bus.subscriber('ticks', { acquire, ack: 'deferred', durable: 'billing' })
    const [attached] = await subscriber.attached()
    t.is(attached?.position, sent === 0 ? 'new' : 'resumed')
    send(publisher, 3)
    const again: [number, boolean][] = sent === 0 ? [] : [[sent - 1, true]]
    const messages = await take(subscriber, again.length + 3)
    t.deepEqual(marked(messages), [...again, [sent, false], [sent + 1, false], [sent + 2, false]])
    sent += 3
    t.true(subscriber.ack(sent - 2))
    await subscriber.close()
    t.like(publisher.stats().subscribers, { 0: { state: 'parked', acks: { pending: 1 } }, length: 1 })
  }
})

test('misuse is said at once', async (t) => {
  const bus = await place(t).bus()
  const wrong = (options: object): Promise<string | undefined> => codeOf(() => bus.subscriber('ticks', options))
  for (const options of [
    { ack: 'sometimes' },
    { ackBatch: 32 },
    { ackInterval: 5, ack: 'deferred' },
    { ack: 'batch', ackBatch: 7 },
    { ack: 'batch', ackBatch: 257 },
    { ack: 'batch', ackBatch: 8.5 },
    { ack: 'batch', ackInterval: 0.5 },
    { ack: 'batch', ackInterval: 51 },
    { durable: 7 },
  ])
    t.is(await wrong(options), 'ERR_RINGBELL_INVALID_OPTION', JSON.stringify(options))
  for (const durable of ['', 'no spaces']) t.is(await wrong({ durable }), 'ERR_RINGBELL_INVALID_NAME')

  const publisher = await bus.publisher('ticks')
  const other = await bus.publisher('ticks')
  const immediate = await bus.subscriber('ticks')
  await immediate.attached({ count: 2 })
  t.throws(() => immediate.ack(0), { code: 'ERR_RINGBELL_INVALID_OPTION', message: /deferred/ })
  const subscriber = await bus.subscriber('ticks', { ack: 'deferred' })
  await subscriber.attached({ count: 2 })
  publisher.send(payload(0))
  const message = await subscriber.receive()
  const invalid = { code: 'ERR_RINGBELL_INVALID_OPTION' }
  for (const upTo of [-1, 0.5, NaN, '0', undefined, {}])
    t.throws(() => subscriber.ack(upTo as number), { ...invalid, message: /upTo/ })
  t.throws(() => subscriber.ack(0), { ...invalid, message: /there are 2 publishers/ })
  t.throws(() => subscriber.ack(0, 7 as never), { ...invalid, message: /publisher/ })
  t.throws(() => subscriber.ack(1, message.publisher), { ...invalid, message: /the last one has sequence 0/ })
  const { id } = subscriber.publishers.map(({ service }) => service).find((one) => one.id !== message.publisher) ?? {}
  t.throws(() => subscriber.ack(0, id), { ...invalid, message: /none was/ })
  t.false(subscriber.ack(0, 'f'.repeat(32)))
  t.true(subscriber.ack(0, message.publisher))
  await subscriber.close()
  t.throws(() => subscriber.ack(message), { code: 'ERR_RINGBELL_CLOSED' })
  await other.close()
})

test('an acknowledging subscriber does not join a topic that drops', async (t) => {
  const bus = await place(t).bus()
  for (const overflow of ['drop-oldest', 'drop-newest'] as const) {
    await bus.publisher(overflow, { overflow })
    for (const options of [{ durable: 'billing' }, { ack: 'batch' }, { ack: 'deferred' }] as const) {
      const subscriber = await bus.subscriber(overflow, options)
      t.like((await once(subscriber, 'failed'))[0], { code: 'ERR_RINGBELL_REFUSED' })
    }
  }
})
