/** Every way to receive, on every rung: order, contents, sequence and time, and what stays for the next reader. */
import test from 'ava'
import type { ExecutionContext } from 'ava'
import type { Batch, Publisher, Rung, Subscriber } from 'ringbell'
import { isPayload, payload } from '../fixtures/payload.mjs'
import { place, until } from '../helpers/place.js'
import { lifetimes, rungs } from '../helpers/rungs.js'

interface Pair {
  publisher: Publisher
  subscriber: Subscriber
}

async function pair(t: ExecutionContext, acquire: Rung, from: 'latest' | 'earliest' = 'latest'): Promise<Pair> {
  const at = place(t)
  const publisher = await (await at.bus()).publisher('ticks')
  const subscriber = await (await at.bus()).subscriber('ticks', { acquire, from })
  const [attached] = await subscriber.attached()
  t.is(attached?.rung, acquire)
  return { publisher, subscriber }
}

function send(publisher: Publisher, from: number, to: number): void {
  for (let number = from; number < to; number++)
    if (!publisher.send(payload(number))) throw new Error(`full at ${number}`)
}

function walk(batch: Batch, from: number): number {
  let number = from
  for (let i = 0; i < batch.length; i++, number++) {
    const [offset, length] = [batch.offset(i), batch.byteLength(i)]
    // A lease must be copied before it is decoded.
    if (!isPayload(batch.data(i).slice(), number)) throw new Error(`message ${number} is wrong`)
    if (!isPayload(batch.bytes.slice(offset, offset + length), number)) throw new Error(`bytes of ${number} are wrong`)
    if (batch.sequence(i) !== number) throw new Error(`sequence ${batch.sequence(i)} instead of ${number}`)
  }
  return number
}

for (const rung of rungs) {
  test(`${rung}: for await gives owned messages in order`, async (t) => {
    const { publisher, subscriber } = await pair(t, rung)
    const before = process.hrtime.bigint()
    send(publisher, 0, 3000)
    const after = process.hrtime.bigint()
    const kept = []
    for await (const message of subscriber) {
      kept.push(message)
      if (kept.length === 3000) break
    }
    // Others land where these lay.
    send(publisher, 3000, 6000)
    for await (const message of subscriber) if (message.sequence === 5999) break
    t.true(kept.every((message, number) => message.sequence === number && isPayload(message.data, number)))
    t.true(kept.every(({ time }) => time >= before && time <= after))
    const { id, name } = publisher.service
    t.deepEqual([kept[0]?.publisher, kept[0]?.service], [id, name])
    t.is(kept[7]?.value, kept[7]?.data)
    const { received, missed } = subscriber.stats()
    t.deepEqual({ received, missed }, { received: 6000, missed: 0 })
  })

  test(`${rung}: tryReceive answers at once, receive waits`, async (t) => {
    const { publisher, subscriber } = await pair(t, rung)
    t.is(subscriber.tryReceive(), undefined)
    const waiting = subscriber.receive()
    send(publisher, 0, 3)
    t.true(isPayload((await waiting).data, 0))
    t.is((await until(() => subscriber.tryReceive())).sequence, 1)
    t.is((await subscriber.receive()).sequence, 2)
    t.is(subscriber.tryReceive(), undefined)
  })

  for (const lifetime of lifetimes(rung)) {
    test(`${rung}: ${lifetime} batches`, async (t) => {
      const { publisher, subscriber } = await pair(t, rung)
      let number = 0
      let last: Batch | undefined
      // Ten times round the ring.
      const sending = (async () => {
        for (let sent = 0; sent < 80_000;)
          if (publisher.send(payload(sent))) sent++
          else await publisher.ready({ bytes: 300 })
      })()
      for await (const batch of subscriber.batches({ lifetime })) {
        t.is(batch.lifetime, lifetime)
        number = walk(batch, number)
        last = batch
        if (number === 80_000) break
      }
      await sending
      t.is(number, 80_000)
      const read = (): number => (last as Batch).data(0).byteLength
      if (lifetime === 'owned') t.is(read(), 4 + ((last as Batch).sequence(0) % 251))
      else t.is((t.throws(read) as { code?: string }).code, 'ERR_RINGBELL_RELEASED')
      await until(() => publisher.stats().subscribers[0]?.backlog === 0)
      t.pass()
    })

    test(`${rung}: a ${lifetime} batch by tryReceiveBatch`, async (t) => {
      const { publisher, subscriber } = await pair(t, rung)
      t.is(subscriber.tryReceiveBatch({ lifetime }), undefined)
      const writer = publisher.batch()
      for (let number = 0; number < 10; number++) writer.push(payload(number))
      writer.commit()
      const batch = await until(() => subscriber.tryReceiveBatch({ lifetime }))
      t.is(walk(batch, 0), 10)
      t.deepEqual(
        [...batch].map((message) => message.sequence),
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
      )
      const receive = (): unknown => subscriber.tryReceive()
      if (lifetime !== 'owned') t.is((t.throws(receive) as { code?: string }).code, 'ERR_RINGBELL_BUSY')
      batch.release()
      send(publisher, 10, 11)
      t.is((await until(() => subscriber.tryReceive())).sequence, 10)
      t.throws(() => batch.data(10), { instanceOf: Error })
    })
  }

  test(`${rung}: listen delivers, stops, and leaves the rest`, async (t) => {
    const { publisher, subscriber } = await pair(t, rung)
    const got: number[] = []
    const listening = subscriber.listen((message) => {
      if (!isPayload(message.data, message.sequence)) throw new Error('wrong')
      if (got.push(message.sequence) === 500) listening.stop()
    })
    send(publisher, 0, 1000)
    await listening.finished
    t.deepEqual(
      got,
      Array.from({ length: 500 }, (_, i) => i),
    )
    t.is((await until(() => subscriber.tryReceive())).sequence, 500)
    for await (const message of subscriber) {
      t.is(message.sequence, 501)
      break
    }
    const batch = await until(() => subscriber.tryReceiveBatch({ lifetime: 'borrowed' }))
    // What the reader before had drained. Over a stream that may not have been all.
    if (rung !== 'stream') t.deepEqual([batch.lifetime, batch.length], ['owned', 498])
    t.is(walk(batch, 502), 502 + batch.length)
  })

  test(`${rung}: earliest begins with what the ring still holds`, async (t) => {
    const at = place(t)
    const bus = await at.bus()
    const publisher = await bus.publisher('ticks', { capacity: 65_536 })
    send(publisher, 0, 5000)
    const subscriber = await bus.subscriber('ticks', { acquire: rung, from: 'earliest' })
    const late = await bus.subscriber('ticks', { acquire: rung })
    await subscriber.attached()
    await late.attached()
    send(publisher, 5000, 5001)
    const first = await subscriber.receive()
    t.true(first.sequence > 0 && first.sequence < 4900, `first is ${first.sequence}`)
    let next = first.sequence
    for (let message = first; ; message = await subscriber.receive()) {
      t.true(message.sequence === next && isPayload(message.data, next))
      if (++next === 5001) break
    }
    t.is(subscriber.tryReceive(), undefined)
    t.is((await late.receive()).sequence, 5000)
  })
}
