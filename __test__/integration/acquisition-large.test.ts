/** Messages larger than their ring, on every rung: whole, in every lifetime and by every way of receiving. */
import test from 'ava'
import type { ExecutionContext } from 'ava'
import type { Message, Publisher, Rung, Subscriber } from 'ringbell'
import { blob, isBlob, lengthOf } from '../fixtures/blob.mjs'
import { peer } from '../helpers/peer.js'
import { place, type Place, until } from '../helpers/place.js'
import { lifetimes, rungs } from '../helpers/rungs.js'

const CAPACITY = 65_536
const LARGE = 300_000

async function pair(
  t: ExecutionContext,
  acquire: Rung,
): Promise<{ publisher: Publisher; subscriber: Subscriber; at: Place }> {
  const at = place(t)
  const publisher = await (await at.bus()).publisher('blobs', { capacity: CAPACITY })
  const subscriber = await (await at.bus()).subscriber('blobs', { acquire })
  await subscriber.attached()
  return { publisher, subscriber, at }
}

/** Small, large, small; and what became of the writes. */
function write(publisher: Publisher): Promise<unknown> {
  return Promise.all([10, LARGE, 20].map((length, number) => publisher.write(blob(number, length))))
}

for (const rung of rungs) {
  test(`${rung}: for await gives large messages, with sequence and time`, async (t) => {
    const { publisher, subscriber } = await pair(t, rung)
    const before = process.hrtime.bigint()
    const written = write(publisher)
    const kept: Message[] = []
    for await (const message of subscriber) {
      kept.push(message)
      if (kept.length === 3) break
    }
    await written
    const after = process.hrtime.bigint()
    t.true([10, LARGE, 20].every((length, number) => isBlob((kept[number] as Message).data, number, length)))
    t.deepEqual(
      kept.map(({ sequence, byteLength }) => [sequence, byteLength]),
      [
        [0, 10],
        [1, LARGE],
        [2, 20],
      ],
    )
    t.true(kept.every(({ time }) => time >= before && time <= after))
    t.is(kept[1]?.publisher, publisher.service.id)
    t.is(kept[1]?.value, kept[1]?.data)
    const { received, missed } = subscriber.stats()
    t.deepEqual([received, missed], [3, 0])
    // Over a stream the publisher's counters come behind its messages.
    const fragments = Math.ceil(LARGE / (CAPACITY / 4 - 48))
    await until(() => {
      t.is(subscriber.tryReceive(), undefined)
      return subscriber.stats().sources[0]?.publisher.fragments === fragments
    })
    t.is(publisher.stats().messages, 3)
  })

  for (const lifetime of lifetimes(rung)) {
    test(`${rung}: ${lifetime} batches hold each large message alone`, async (t) => {
      const { publisher, subscriber } = await pair(t, rung)
      const written = write(publisher)
      const lengths: number[] = []
      const views: Uint8Array[] = []
      for await (const batch of subscriber.batches({ lifetime })) {
        t.true(batch.lifetime === lifetime || batch.lifetime === 'owned')
        for (let i = 0; i < batch.length; i++) {
          const number = lengths.push(batch.byteLength(i)) - 1
          t.is(batch.sequence(i), number)
          t.true(isBlob(batch.data(i).slice(), number, batch.byteLength(i)))
          t.true(
            isBlob(batch.bytes.slice(batch.offset(i)).subarray(0, batch.byteLength(i)), number, batch.byteLength(i)),
          )
          if (batch.byteLength(i) === LARGE) views.push(batch.data(i))
        }
        if (lengths.length === 3) break
      }
      await written
      t.deepEqual(lengths, [10, LARGE, 20])
      t.true(isBlob(views[0] as Uint8Array, 1, LARGE), 'its memory is its own')
      t.true(publisher.send(blob(3, 5)))
      t.is((await until(() => subscriber.tryReceive())).sequence, 3, 'everything was given back')
      await until(() => publisher.stats().subscribers[0]?.backlog === 0)
    })
  }

  test(`${rung}: tryReceive, receive and listen give only whole messages`, async (t) => {
    const { publisher, subscriber } = await pair(t, rung)
    let over = false
    const written = publisher.write(blob(0, LARGE)).then(() => (over = true))
    let got = subscriber.tryReceive()
    t.is(got, undefined, 'no ring of this size can hold all of it')
    while (got === undefined) {
      await new Promise((done) => setImmediate(done))
      got = subscriber.tryReceive()
    }
    t.true(isBlob(got.data, 0, LARGE))
    await written
    t.true(over)
    const [received] = await Promise.all([subscriber.receive(), publisher.write(blob(1, LARGE))])
    t.true(isBlob(received.data, 1, LARGE))
    const heard = new Promise<Uint8Array>((resolve) => {
      const listening = subscriber.listen(({ data }) => {
        listening.stop()
        resolve(data)
      })
    })
    await publisher.write(blob(2, LARGE))
    t.true(isBlob(await heard, 2, LARGE))
  })

  test(`${rung}: a late subscriber begins with the next whole message`, async (t) => {
    const { publisher, subscriber, at } = await pair(t, rung)
    // Nobody reads, so it stands still when the ring is full.
    const written = publisher.write(blob(0, LARGE))
    const late = await (await at.bus()).subscriber('blobs', { acquire: rung })
    await late.attached()
    const both = await Promise.all([subscriber.receive(), late.receive(), publisher.write(blob(1, 40_000)), written])
    t.true(isBlob(both[0].data, 0, LARGE))
    t.true(isBlob(both[1].data, 1, 40_000))
    t.deepEqual([late.stats().missed, late.stats().received], [0, 1])
  })

  test(`${rung}: blobs of another process, some larger than its ring`, async (t) => {
    const at = place(t)
    const count = 60
    const other = peer(at, 'write.mjs', ['blobs', JSON.stringify({ capacity: CAPACITY }), count])
    const subscriber = await (await at.bus()).subscriber('blobs', { acquire: rung })
    let number = 0
    for await (const message of subscriber) {
      if (message.sequence !== number || !isBlob(message.data, number, lengthOf(number))) break
      if (++number === count) break
    }
    t.is(number, count)
    await other.tells('written')
    other.ask('close')
    t.is((await other.end).code, 0)
  })
}
