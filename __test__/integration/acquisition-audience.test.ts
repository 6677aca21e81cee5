/** A publisher hears of its subscribers, on every rung: it waits for them, and learns who comes, stalls and goes. */
import { once } from 'node:events'
import test from 'ava'
import type { AttachedSubscriber, Publisher } from 'ringbell'
import { peer } from '../helpers/peer.js'
import { codeOf, place, until } from '../helpers/place.js'
import { rungs } from '../helpers/rungs.js'

type Heard = [event: string, subscriber: AttachedSubscriber, detail?: unknown]

/** All events of a publisher, in order. */
function hear(publisher: Publisher): Heard[] {
  const heard: Heard[] = []
  publisher.on('attached', (subscriber) => heard.push(['attached', subscriber]))
  publisher.on('ended', (subscriber, reason) => heard.push(['ended', subscriber, reason]))
  publisher.on('stalled', (subscriber, milliseconds) => heard.push(['stalled', subscriber, milliseconds]))
  publisher.on('evicted', (subscriber, reason) => heard.push(['evicted', subscriber, reason]))
  return heard
}

for (const rung of rungs) {
  /** Over a stream, a close and a death look the same. */
  const known = (reason: string): string => (rung === 'stream' ? 'unknown' : reason)

  test(`${rung}: a publisher waits for subscribers`, async (t) => {
    const at = place(t)
    const publisher = await (await at.bus()).publisher('ticks')
    const other = await at.bus()
    const both = publisher.attached({ count: 2 })
    const one = publisher.attached()
    const first = await other.subscriber('ticks', { acquire: rung })
    await one
    t.true(publisher.subscribers >= 1)
    await other.subscriber('ticks', { acquire: rung })
    await both
    t.is(publisher.subscribers, 2)
    await first.close()
    await until(() => publisher.subscribers === 1)
    await publisher.attached()
    const patience = new AbortController()
    const never = publisher.attached({ count: 2, signal: patience.signal })
    patience.abort()
    await t.throwsAsync(never, { name: 'AbortError', message: /1 attached so far/ })
    t.is(await codeOf(() => publisher.attached({ count: 0 })), 'ERR_RINGBELL_INVALID_OPTION')
    await t.throwsAsync(publisher.attached({ count: 65 }), {
      code: 'ERR_RINGBELL_INVALID_OPTION',
      message:
        'Option count has the wrong value 65: it must be at most 64, the slots of this publisher; raise maxSubscribers.',
    })
    const waiting = codeOf(() => publisher.attached({ count: 2 }))
    await publisher.close()
    t.is(await waiting, 'ERR_RINGBELL_CLOSED')
    t.is(await codeOf(() => publisher.attached()), 'ERR_RINGBELL_CLOSED')
  })

  test(`${rung}: a publisher hears who comes and who closes`, async (t) => {
    const at = place(t)
    const publisher = await (await at.bus()).publisher('ticks')
    const other = await at.bus()
    const early = await other.subscriber('ticks', { acquire: rung })
    await early.attached()
    await publisher.attached()
    const heard = hear(publisher)
    await until(() => heard.length === 1)
    const late = await other.subscriber('ticks', { acquire: rung, durable: 'billing' })
    await until(() => heard.length === 2)
    t.deepEqual(
      heard.map(([event, subscriber]) => [event, subscriber.pid, subscriber.rung, subscriber.durable]),
      [
        ['attached', process.pid, rung, false],
        ['attached', process.pid, rung, true],
      ],
    )
    await late.close()
    await until(() => heard.length === 3)
    await early.close()
    await until(() => heard.length === 4)
    t.deepEqual(
      heard.slice(2).map(([event, , reason]) => [event, reason]),
      [
        ['ended', known('closed')],
        ['ended', known('closed')],
      ],
    )
    t.true(heard[2]?.[1] === heard[1]?.[1] && heard[3]?.[1] === heard[0]?.[1], 'the same object')
  })

  test(`${rung}: a publisher hears of a death`, async (t) => {
    const at = place(t)
    const publisher = await (await at.bus()).publisher('ticks', { allowDirect: true })
    const heard = hear(publisher)
    const child = peer(at, 'subscribe.mjs', ['ticks', JSON.stringify({ acquire: rung })])
    const [subscriber] = (await once(publisher, 'attached')) as [AttachedSubscriber]
    t.is(subscriber.pid, child.pid)
    child.kill()
    await once(publisher, 'ended')
    t.deepEqual(heard, [
      ['attached', subscriber],
      ['ended', subscriber, known('died')],
    ])
  })

  test(`${rung}: a publisher hears of a stall and of the eviction that follows`, async (t) => {
    const at = place(t)
    const publisher = await (await at.bus()).publisher('ticks', { capacity: 4096, evictAfter: 2000 })
    const heard = hear(publisher)
    await (await at.bus()).subscriber('ticks', { acquire: rung })
    await once(publisher, 'attached')
    await until(() => {
      while (publisher.send(new Uint8Array(1000)));
      return (publisher.stats().subscribers[0]?.backlog ?? 0) >= 3000
    })
    // It waits for room, so it evicts a subscriber that leaves none.
    await publisher.ready()
    await until(() => heard.at(-1)?.[0] === 'ended')
    const [attached, ...rest] = heard
    t.deepEqual(
      rest.filter(([event]) => event !== 'stalled').map(([event, , reason]) => [event, reason]),
      [
        ['evicted', 'stalled'],
        ['ended', 'evicted'],
      ],
    )
    const stalls = rest.filter(([event]) => event === 'stalled')
    // On a machine that is too busy to look between half of the time and all of it there is none.
    t.true(stalls.length <= 1)
    for (const [, , milliseconds] of stalls) t.true((milliseconds as number) >= 1000)
    t.true(rest.every(([, subscriber]) => subscriber === attached?.[1]))
  })
}

test('nothing is told after close()', async (t) => {
  const at = place(t)
  const publisher = await (await at.bus()).publisher('ticks')
  await (await at.bus()).subscriber('ticks')
  await publisher.attached()
  const heard = hear(publisher)
  await publisher.close()
  await new Promise((done) => setImmediate(done))
  t.deepEqual(heard, [])
})
