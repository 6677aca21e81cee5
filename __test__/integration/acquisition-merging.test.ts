/** A subscriber of many publishers, on every rung: patterns, publishers that come and go, drained before they end. */
import { once } from 'node:events'
import test from 'ava'
import type { AttachedPublisher, Publisher } from 'ringbell'
import { isPayload, payload } from '../fixtures/payload.mjs'
import { place, until } from '../helpers/place.js'
import { rungs } from '../helpers/rungs.js'

for (const rung of rungs) {
  test(`${rung}: sensors.* while publishers come and go`, async (t) => {
    const at = place(t)
    const bus = await at.bus()
    const other = await at.bus()
    const subscriber = await bus.subscriber('sensors.*', { acquire: rung, from: 'earliest' })
    // Must not be joined.
    const strangers = await Promise.all(['sensors', 'sensors2.a', 'motors.a'].map((name) => other.publisher(name)))
    const events: string[] = []
    subscriber.on('attached', ({ service }: AttachedPublisher) => events.push(`+${service.id}`))
    subscriber.on('ended', ({ service }: AttachedPublisher) => events.push(`-${service.id}`))

    const ids: string[] = []
    const publish = async (name: string): Promise<Publisher> => {
      const publisher = await other.publisher(name)
      ids.push(publisher.service.id)
      for (let number = 0; number < 100; number++) publisher.send(payload(number))
      return publisher
    }
    let open = [await publish('sensors.a'), await publish('sensors.b'), await publish('sensors.b')]
    const next = new Map<string, number>()
    const names = new Map<string, string>()
    let total = 0
    for await (const message of subscriber) {
      const number = next.get(message.publisher) ?? 0
      t.true(message.sequence === number && isPayload(message.data, number), `${message.service} ${number}`)
      next.set(message.publisher, number + 1)
      names.set(message.publisher, message.service)
      if (number !== 99) continue
      // One that is read to its end goes, and another comes, until there were nine.
      if (++total === 9) break
      if (ids.length < 9) open.push(await publish(`sensors.c.${ids.length}`))
      const gone = open.find(({ service }) => service.id === message.publisher)
      await gone?.close()
      open = open.filter((one) => one !== gone)
    }
    t.deepEqual([...next.keys()].sort(), [...ids].sort())
    t.true([...next.values()].every((count) => count === 100))
    t.deepEqual(
      [...new Set(names.values())].sort(),
      ['sensors.a', 'sensors.b', ...[3, 4, 5, 6, 7, 8].map((n) => `sensors.c.${n}`)].sort(),
    )
    for (const one of open) await one.close()
    while (subscriber.publishers.length > 0) await once(subscriber, 'ended')
    t.deepEqual([...events].sort(), [...ids.map((id) => `+${id}`), ...ids.map((id) => `-${id}`)].sort())
    for (const id of ids) t.true(events.indexOf(`+${id}`) < events.indexOf(`-${id}`))
    t.is(subscriber.stats().received, 900)
    t.true(strangers.every(({ subscribers }) => subscribers === 0))
  })

  test(`${rung}: a closed publisher ends after its last message`, async (t) => {
    const at = place(t)
    const publisher = await (await at.bus()).publisher('ticks')
    const subscriber = await (await at.bus()).subscriber('ticks', { acquire: rung })
    await subscriber.attached()
    for (let number = 0; number < 2000; number++) publisher.send(payload(number))
    await publisher.close()
    let got = 0
    let gotAtEnd = -1
    const ended = new Promise<void>((resolve) =>
      subscriber.on('ended', () => {
        gotAtEnd = got
        resolve()
      }),
    )
    for await (const message of subscriber) {
      t.true(isPayload(message.data, got))
      if (++got === 2000) break
    }
    await ended
    t.is(gotAtEnd, 2000)
    t.deepEqual(subscriber.publishers, [])
  })

  test(`${rung}: one instance of several`, async (t) => {
    const at = place(t)
    const other = await at.bus()
    const [first, second] = [await other.publisher('ticks'), await other.publisher('ticks')]
    const bus = await at.bus()
    const one = await bus.subscriber('ticks', { acquire: rung, instance: second.service.id })
    const all = await bus.subscriber('ticks', { acquire: rung })
    await Promise.all([one.attached(), all.attached({ count: 2 })])
    t.deepEqual([first.subscribers, second.subscribers], [1, 2])
    for (const publisher of [first, second]) t.true(publisher.send(payload(0)))
    t.is((await one.receive()).publisher, second.service.id)
    t.is(one.tryReceive(), undefined)
  })

  test(`${rung}: ended is told after the last held message`, async (t) => {
    const at = place(t)
    const publisher = await (await at.bus()).publisher('ticks')
    const bus = await at.bus()
    const subscriber = await bus.subscriber('ticks', { acquire: rung })
    const witness = await bus.subscriber('ticks', { acquire: rung })
    await Promise.all([subscriber.attached(), witness.attached()])
    const ended = once(subscriber, 'ended')
    let told = false
    subscriber.on('ended', () => (told = true))
    for (let number = 0; number < 100; number++) publisher.send(payload(number))
    t.true(isPayload((await subscriber.receive()).data, 0))
    const seen = once(witness, 'ended')
    await publisher.close()
    const all = witness.listen(() => {})
    await seen
    all.stop()
    // The witness has heard that it is closed, having read everything; the subscriber hears of it from its bus.
    await until(() => bus.services.find('ticks') === undefined)
    for (let turn = 0; turn < 20; turn++) await new Promise((done) => setImmediate(done))
    t.false(told)
    for (let number = 1; number < 99; number++) t.true(isPayload((await subscriber.receive()).data, number))
    t.false(told)
    t.true(isPayload((await subscriber.receive()).data, 99))
    await ended
    t.deepEqual(subscriber.publishers, [])
  })

  test(`${rung}: every subscriber gets every message`, async (t) => {
    const at = place(t)
    const bus = await at.bus()
    const publisher = await bus.publisher('ticks', { maxSubscribers: 40 })
    // More than one doorbell's worth.
    const subscribers = await Promise.all(Array.from({ length: 40 }, () => bus.subscriber('ticks', { acquire: rung })))
    await Promise.all(subscribers.map((one) => one.attached()))
    t.is(publisher.subscribers, 40)
    const waiting = subscribers.map((one) => one.receive())
    for (let number = 0; number < 50; number++) publisher.send(payload(number))
    t.true((await Promise.all(waiting)).every(({ data }) => isPayload(data, 0)))
    for (const one of subscribers)
      for (let number = 1; number < 50; number++) t.true(isPayload((await one.receive()).data, number))
    await Promise.all(subscribers.slice(20).map((one) => one.close()))
    await until(() => publisher.subscribers === 20)
    t.is(publisher.stats().subscribers.length, 20)
  })

  test(`${rung}: no free slot is a failure of that subscriber alone`, async (t) => {
    const at = place(t)
    const bus = await at.bus()
    const publisher = await bus.publisher('narrow', { maxSubscribers: 1 })
    const first = await bus.subscriber('narrow', { acquire: rung })
    await first.attached()
    const second = await bus.subscriber('narrow', { acquire: rung })
    const [error] = (await once(second, 'failed')) as [{ code: string }]
    t.is(error.code, 'ERR_RINGBELL_NO_SLOT')
    publisher.send(payload(0))
    t.true(isPayload((await first.receive()).data, 0))
  })
}
