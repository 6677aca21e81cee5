/** Every way to send, on every rung: windows, loans, the three overflow policies with exact counts, back-pressure between processes. */
import test from 'ava'
import type { ExecutionContext } from 'ava'
import type { AttachedPublisher, Publisher, PublisherOptions, Rung, Subscriber } from 'ringbell'
import { isPayload, payload } from '../fixtures/payload.mjs'
import { peer } from '../helpers/peer.js'
import { codeOf, place, until } from '../helpers/place.js'
import { rungs } from '../helpers/rungs.js'

async function pair(
  t: ExecutionContext,
  acquire: Rung,
  options: PublisherOptions & { codec?: 'bytes' } = {},
): Promise<{ publisher: Publisher; subscriber: Subscriber }> {
  const at = place(t)
  const publisher = await (await at.bus()).publisher('ticks', options)
  const subscriber = await (await at.bus()).subscriber('ticks', { acquire })
  await subscriber.attached()
  return { publisher, subscriber }
}

async function received(subscriber: Subscriber, count: number): Promise<Uint8Array[]> {
  const all: Uint8Array[] = []
  while (all.length < count) all.push((await subscriber.receive()).data)
  if (subscriber.tryReceive() !== undefined) throw new Error(`more than ${count} messages`)
  return all
}

for (const rung of rungs) {
  for (const overflow of ['block', 'drop-oldest', 'drop-newest'] as const) {
    test(`${rung}: a batch writer on a ${overflow} topic`, async (t) => {
      const { publisher, subscriber } = await pair(t, rung, { overflow })
      const batch = publisher.batch()
      for (let number = 0; number < 100; number++) t.true(batch.push(payload(number)))
      const place = batch.reserve(payload(100).length)
      place?.set(payload(100))
      const at = batch.reserveAt(payload(101).length)
      batch.bytes.set(payload(101), at)
      t.is(batch.pending, 102)
      t.is(subscriber.tryReceive(), undefined)
      t.is(await codeOf(() => publisher.send(payload(0))), 'ERR_RINGBELL_WINDOW_OPEN')
      t.is(await codeOf(() => publisher.loan(10)), 'ERR_RINGBELL_WINDOW_OPEN')
      batch.commit()
      const all = await received(subscriber, 102)
      t.true(all.every(isPayload))
      batch.push(payload(1))
      batch.abandon()
      t.true(publisher.send(payload(0)))
      t.deepEqual(
        (await received(subscriber, 1)).map((data) => isPayload(data, 0)),
        [true],
      )
    })

    test(`${rung}: a loan on a ${overflow} topic`, async (t) => {
      const { publisher, subscriber } = await pair(t, rung, { overflow })
      const loan = publisher.loan(300)
      t.is(loan?.data.byteLength, 300)
      loan?.data.set(payload(7))
      t.is(await codeOf(() => publisher.send(payload(0))), 'ERR_RINGBELL_WINDOW_OPEN')
      loan?.commit(payload(7).length)
      t.is(await codeOf(() => loan?.data), 'ERR_RINGBELL_RELEASED')
      publisher.loan(50)?.abandon()
      t.deepEqual(
        (await received(subscriber, 1)).map((data) => isPayload(data, 7)),
        [true],
      )
    })
  }

  test(`${rung}: block refuses what does not fit, and loses nothing`, async (t) => {
    const { publisher, subscriber } = await pair(t, rung, { capacity: 4096, overflow: 'block' })
    let sent = 0
    while (publisher.send(payload(sent))) sent++
    const refused = sent
    t.false(publisher.send(payload(sent)))
    t.is(publisher.stats().full, 2)
    const first = await received(subscriber, refused)
    await publisher.ready({ bytes: 300 })
    t.true(publisher.send(payload(sent++)))
    t.true([...first, ...(await received(subscriber, 1))].every(isPayload))
    t.deepEqual([subscriber.stats().received, subscriber.stats().missed, publisher.stats().dropped], [sent, 0, 0])
  })

  test(`${rung}: drop-oldest takes all messages and counts the missed`, async (t) => {
    const { publisher, subscriber } = await pair(t, rung, { capacity: 4096, overflow: 'drop-oldest' })
    let told = 0
    subscriber.on('missed', (_publisher: AttachedPublisher, messages: number) => (told += messages))
    // More than a connection holds, where there is one.
    const count = rung === 'stream' ? 100_000 : 1000
    for (let number = 0; number < count; number++) t.true(publisher.send(payload(number)))
    const all = [await subscriber.receive()]
    if (rung !== 'stream') {
      for (let message = subscriber.tryReceive(); message !== undefined; message = subscriber.tryReceive())
        all.push(message)
    }
    while (all.at(-1)?.sequence !== count - 1) all.push(await subscriber.receive())
    t.true(all.length > 0 && all.length < count)
    await until(() => subscriber.tryReceive() === undefined && told === count - all.length)
    t.true(all.every(({ data, sequence }) => isPayload(data, sequence)))
    t.deepEqual([subscriber.stats().received, subscriber.stats().missed], [all.length, told])
  })

  test(`${rung}: drop-newest drops for all, and counts`, async (t) => {
    const { publisher, subscriber } = await pair(t, rung, { capacity: 4096, overflow: 'drop-newest' })
    let accepted = 0
    let dropped = 0
    let first: Uint8Array[] = []
    for (let number = 0; number < 1000; number++) {
      if (publisher.send(payload(accepted))) accepted++
      else dropped++
      if (number !== 500) continue
      first = await received(subscriber, accepted)
      await publisher.ready({ bytes: 300 })
    }
    t.true(accepted > 0 && dropped > 0)
    t.is(publisher.stats().dropped, dropped)
    t.is(publisher.stats().messages, accepted)
    t.true([...first, ...(await received(subscriber, accepted - first.length))].every(isPayload))
    t.deepEqual([subscriber.stats().received, subscriber.stats().missed], [accepted, 0])
  })

  test(`${rung}: every way of sending refuses a message over the limit`, async (t) => {
    const { publisher, subscriber } = await pair(t, rung, { capacity: 65_536 })
    const limit = publisher.maxMessage
    t.true(limit > 32_000 && limit < 32_768)
    const large = new Uint8Array(limit + 1)
    for (const send of [
      () => publisher.send(large),
      () => publisher.batch().push(large),
      () => publisher.loan(limit + 1),
      () => publisher.ready({ bytes: limit + 1 }),
    ]) {
      const error = (await t.throwsAsync(async () => send())) as { code?: string; message: string }
      t.is(error.code, 'ERR_RINGBELL_MESSAGE_TOO_LARGE')
      t.true(error.message.includes(String(limit)), error.message)
    }
    t.true(publisher.send(new Uint8Array(limit).fill(9)))
    const got = await subscriber.receive()
    t.true(got.byteLength === limit && got.data.every((byte) => byte === 9))
    t.true(publisher.send(new Uint8Array(0)))
    t.is((await subscriber.receive()).byteLength, 0)
  })

  test(`${rung}: 200,000 messages through a small ring, with ready()`, async (t) => {
    const at = place(t)
    // The subscriber is our child's sibling in no way that Yama minds: a parent may look at its child.
    const child = peer(at, 'publish.mjs', ['ticks', '{"capacity":65536}', 200_000])
    const subscriber = await (await at.bus()).subscriber('ticks', { acquire: rung })
    let next = 0
    for await (const batch of subscriber.batches({ lifetime: 'borrowed' })) {
      for (let i = 0; i < batch.length; i++, next++)
        if (batch.sequence(i) !== next || !isPayload(batch.data(i), next)) throw new Error(`message ${next} is wrong`)
      if (next >= 200_000) break
    }
    t.is(next, 200_000)
    t.is(subscriber.publishers[0]?.rung, rung)
    const { publisher } = subscriber.stats().sources[0] ?? {}
    t.is(publisher?.messages, 200_000)
    t.true((publisher?.full ?? 0) > 0, 'the ring was never full: this did not test back-pressure')
    child.ask('close')
    t.is((await child.tells('sent'))['number'], 200_000)
    t.like(await child.end, { code: 0, signal: null })
  })
}
