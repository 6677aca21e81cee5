/** What closing, aborting and reading twice do to those who wait; nobody is left hanging, and nobody is told the wrong thing. */
import { getEventListeners } from 'node:events'
import test from 'ava'
import type { ExecutionContext } from 'ava'
import type { Bus, Publisher, Subscriber } from 'ringbell'
import { isPayload, payload } from '../fixtures/payload.mjs'
import { codeOf, place, until } from '../helpers/place.js'

async function trio(t: ExecutionContext): Promise<{ bus: Bus; publisher: Publisher; subscriber: Subscriber }> {
  const bus = await place(t).bus()
  const publisher = await bus.publisher('ticks', { capacity: 4096 })
  const subscriber = await bus.subscriber('ticks')
  await subscriber.attached()
  return { bus, publisher, subscriber }
}

const CLOSED = 'ERR_RINGBELL_CLOSED'
const ABORTED = 'ABORT_ERR'
const BUSY = 'ERR_RINGBELL_BUSY'

async function count(messages: AsyncIterable<unknown>): Promise<number> {
  let number = 0
  for await (const _ of messages) number++
  return number
}

test('closing a subscriber ends its iterations, listeners and waits', async (t) => {
  const { bus, publisher, subscriber } = await trio(t)
  publisher.send(payload(1))
  const iteration = count(subscriber)
  await until(() => publisher.stats().subscribers[0]?.received === 1)
  const second = await bus.subscriber('ticks')
  const receiving = codeOf(() => second.receive())
  const third = await bus.subscriber('ticks')
  const { finished } = third.listen(() => {})
  const fourth = await bus.subscriber('nobody')
  const attaching = codeOf(() => fourth.attached())
  const batches = count((await bus.subscriber('ticks')).batches({ lifetime: 'lease' }))
  await subscriber.close()
  t.is(await iteration, 1)
  await second.close()
  t.is(await receiving, CLOSED)
  await third.close()
  await t.notThrowsAsync(finished)
  await bus.close()
  t.is(await attaching, CLOSED)
  t.is(await batches, 0)
  t.is(publisher.subscribers, 0)
})

test('a closed endpoint says that it is closed; closing twice is allowed', async (t) => {
  const { bus, publisher, subscriber } = await trio(t)
  const batch = publisher.batch()
  t.true(batch.push(payload(1)))
  const service = publisher.service
  for (const one of [publisher, subscriber, publisher, subscriber]) await one.close()
  for (const call of [
    () => publisher.send(payload(1)),
    () => publisher.ready(),
    () => publisher.batch(),
    () => batch.push(payload(1)),
    () => publisher.loan(1),
    () => publisher.stats(),
    () => publisher.update({}),
    () => publisher.service,
    () => subscriber.tryReceive(),
    () => subscriber.tryReceiveBatch(),
    () => subscriber.receive(),
    () => subscriber.attached(),
    () => subscriber.stats(),
    () => subscriber.listen(() => {}),
    () => subscriber.messages(),
    () => subscriber.batches(),
  ])
    t.is(await codeOf(call), CLOSED, String(call))
  t.deepEqual([publisher.subscribers, publisher.closed, subscriber.closed], [0, true, true])
  await bus.close()
  await bus.close()
  for (const call of [
    () => bus.publisher('x'),
    () => bus.subscriber('x'),
    () => bus.announce('x'),
    () => bus.gc(),
    () => bus.doctor(),
    () => bus.services.list(),
    () => bus.services.find(service.name),
    () => bus.services.waitFor('x'),
    () => bus.services.watch(),
  ])
    t.is(await codeOf(call), CLOSED, String(call))
})

test('closing a publisher or a bus rejects waits for room', async (t) => {
  const { bus, publisher } = await trio(t)
  while (publisher.send(payload(1)));
  const ready = codeOf(() => publisher.ready())
  const waitFor = codeOf(() => bus.services.waitFor('nobody'))
  const watching = count(bus.services.watch({ filter: 'nobody' }))
  await publisher.close()
  t.is(await ready, CLOSED)
  await bus.close()
  t.is(await waitFor, CLOSED)
  t.is(await watching, 0)
})

test('a signal ends every wait, and the endpoint stays usable', async (t) => {
  const { bus, publisher, subscriber } = await trio(t)
  while (publisher.send(payload(1)));
  const empty = await bus.subscriber('ticks')
  await empty.attached()
  const calls: ((signal: AbortSignal) => Promise<unknown>)[] = [
    (signal) => empty.receive({ signal }),
    (signal) => empty.attached({ count: 2, signal }),
    (signal) => count(empty.messages({ signal })),
    (signal) => count(empty.batches({ signal, lifetime: 'borrowed' })),
    (signal) => publisher.ready({ signal }),
    (signal) => bus.services.waitFor('nobody', { signal }),
    (signal) => count(bus.services.watch({ filter: 'nobody', signal })),
  ]
  for (const call of calls) {
    const reason = new Error('enough')
    const error = await t.throwsAsync<Error>(async () => call(AbortSignal.abort(reason)), undefined, String(call))
    t.deepEqual([error.name, (error as { code?: string }).code, error.cause], ['AbortError', ABORTED, reason])
    const controller = new AbortController()
    const waiting = call(controller.signal)
    waiting.catch(() => undefined)
    await new Promise((done) => setImmediate(done))
    t.is(getEventListeners(controller.signal, 'abort').length, 1, String(call))
    controller.abort(reason)
    t.is(await codeOf(() => waiting), ABORTED, String(call))
  }
  const controller = new AbortController()
  const { finished } = empty.listen(() => {}, { signal: controller.signal })
  controller.abort()
  await t.notThrowsAsync(finished)
  while (subscriber.tryReceive() !== undefined);
  await publisher.ready()
  publisher.send(payload(5))
  t.is((await empty.receive()).byteLength, payload(5).length)
})

test('signals of waits that ended well keep no listeners', async (t) => {
  const { bus, publisher, subscriber } = await trio(t)
  const { signal } = new AbortController()
  const listeners = (): number => getEventListeners(signal, 'abort').length
  for (let round = 0; round < 200; round++) {
    await subscriber.attached({ signal })
    const waiting = subscriber.receive({ signal })
    publisher.send(payload(round))
    await waiting
    await publisher.ready({ signal })
    await bus.services.waitFor('ticks', { signal })
    publisher.send(payload(round))
    for await (const _ of subscriber.messages({ signal })) break
    for await (const _ of bus.services.watch({ signal })) break
    subscriber.listen(() => {}, { signal }).stop()
  }
  t.is(listeners(), 0)
  while (publisher.send(payload(1)));
  const ready = publisher.ready({ signal })
  t.is(listeners(), 1)
  while (subscriber.tryReceive() !== undefined);
  await ready
  t.is(listeners(), 0)
})

test('one reader at a time: a second is busy, and the first is not disturbed', async (t) => {
  const { publisher, subscriber } = await trio(t)
  const receiving = subscriber.receive()
  for (const call of [() => subscriber.receive(), () => subscriber.tryReceive(), () => subscriber.tryReceiveBatch()])
    t.is(await codeOf(call), BUSY, String(call))
  publisher.send(payload(1))
  await receiving

  const iteration = subscriber.messages()
  for (const call of [() => subscriber.messages(), () => subscriber.batches(), () => subscriber.listen(() => {})])
    t.is(await codeOf(call), BUSY, String(call))
  const next = iteration.next()
  publisher.send(payload(2))
  t.is((await next).value?.byteLength, payload(2).length)
  await iteration.return?.()

  t.is(await codeOf(() => subscriber.listen(undefined as never)), 'ERR_RINGBELL_INVALID_OPTION')
  const listening = subscriber.listen(() => {})
  t.is(await codeOf(() => subscriber.messages()), BUSY)
  listening.stop()

  publisher.send(payload(3))
  const batch = subscriber.tryReceiveBatch({ lifetime: 'lease' })
  for (const call of [
    () => subscriber.tryReceive(),
    () => subscriber.receive(),
    () => subscriber.messages(),
    () => subscriber.listen(() => {}),
  ])
    t.is(await codeOf(call), BUSY, String(call))
  batch?.release()
  publisher.send(payload(4))
  for await (const message of subscriber) {
    t.is(message.byteLength, payload(4).length)
    break
  }
})

test('mixing ways of reading loses and repeats nothing', async (t) => {
  for (const lifetime of ['borrowed', 'lease'] as const) {
    const bus = await place(t).bus()
    const publisher = await bus.publisher('ticks', { capacity: 65_536 })
    const subscriber = await bus.subscriber('ticks')
    await subscriber.attached()
    let sent = 0
    const send = (count: number): void => {
      for (let left = count; left > 0; left--) publisher.send(payload(sent++))
    }
    send(100)
    const got: number[] = []
    const note = (message: { sequence: number; data: Uint8Array } | undefined): void => {
      if (message === undefined) return
      got.push(message.sequence)
      t.true(isPayload(message.data.slice(), message.sequence), `${lifetime}: ${message.sequence}`)
    }
    const iteration = subscriber.batches({ lifetime })
    note(subscriber.tryReceive())
    for await (const batch of iteration) {
      for (const message of batch) note(message)
      batch.release()
      send(30)
      note(subscriber.tryReceive())
      if (got.length > 1000) break
    }
    for (let message = subscriber.tryReceive(); message !== undefined; message = subscriber.tryReceive()) note(message)
    t.deepEqual(
      got,
      Array.from({ length: sent }, (_, number) => number),
    )
  }
})

test('a lent batch stays intact until it is released', async (t) => {
  for (const lifetime of ['borrowed', 'lease'] as const) {
    const { publisher, subscriber } = await trio(t)
    publisher.send(payload(0))
    publisher.send(payload(1))
    const iteration = subscriber.messages()
    const batch = subscriber.tryReceiveBatch({ lifetime })
    publisher.send(payload(2))
    t.is(await codeOf(() => iteration.next()), BUSY)
    t.deepEqual([batch?.length, batch?.sequence(1)], [2, 1])
    t.true(isPayload(batch?.data(1).slice() ?? new Uint8Array(), 1))
    batch?.release()
    t.is(subscriber.tryReceive()?.sequence, 2)
  }
})

test('an event listener may close the subscriber or abort a wait', async (t) => {
  const at = place(t)
  const [bus, other] = [await at.bus(), await at.bus()]
  await other.publisher('ticks')
  const closing = await bus.subscriber('ticks')
  closing.on('attached', () => void closing.close())
  // Attached as the listener is called, or closed by it: what matters is that it ends.
  t.true([undefined, CLOSED].includes(await codeOf(() => closing.attached({ count: 1 }))))
  const second = await bus.subscriber('ticks')
  second.on('attached', () => void second.close())
  t.is(await codeOf(() => second.attached({ count: 2 })), CLOSED)

  for (const lifetime of ['owned', 'borrowed', 'lease'] as const) {
    const subscriber = await bus.subscriber('ticks')
    const controller = new AbortController()
    subscriber.on('attached', () => controller.abort())
    t.is(await codeOf(() => count(subscriber.batches({ lifetime, signal: controller.signal }))), ABORTED)
    const iteration = subscriber.batches({ lifetime })
    await iteration.return?.()
    t.is(subscriber.tryReceive(), undefined)
  }
  const third = await bus.subscriber('ticks')
  const listening = third.listen(() => t.fail('stopped'))
  third.on('attached', () => listening.stop())
  await listening.finished
  t.is(third.tryReceive(), undefined)
})

test('attached() does not need the public listeners', async (t) => {
  const at = place(t)
  const bus = await at.bus()
  const subscriber = await bus.subscriber('ticks')
  const attached = subscriber.attached()
  subscriber.removeAllListeners()
  await (await at.bus()).publisher('ticks')
  t.is((await attached).length, 1)
})

test('a closed bus gives no answers from its cache', async (t) => {
  const bus = await place(t).bus()
  await bus.announce('here')
  await bus.services.waitFor('here')
  await until(() => bus.services.find('here') !== undefined)
  await bus.close()
  for (const call of [() => bus.services.find('here'), () => bus.services.list()]) t.is(await codeOf(call), CLOSED)
})

test('overlapping calls of next are answered in order', async (t) => {
  const { publisher, subscriber } = await trio(t)
  const iteration = subscriber.messages()
  const asked = Array.from({ length: 5 }, () => iteration.next())
  for (let number = 0; number < 5; number++) publisher.send(payload(number))
  t.deepEqual(
    (await Promise.all(asked)).map(({ value }) => value?.sequence),
    [0, 1, 2, 3, 4],
  )
  await iteration.return?.()
  t.deepEqual(await iteration.next(), { value: undefined, done: true })
})

test('waits for room are served in order', async (t) => {
  const { publisher, subscriber } = await trio(t)
  while (publisher.send(payload(200)));
  const order: number[] = []
  const waiting = [1500, 10, 1900].map((bytes) => publisher.ready({ bytes }).then(() => order.push(bytes)))
  while (subscriber.tryReceive() !== undefined);
  await Promise.all(waiting)
  t.deepEqual(order, [1500, 10, 1900])
})

test('leases are refused if not detachable; closing detaches them', async (t) => {
  const { bus, publisher, subscriber } = await trio(t)
  for (const options of [{ evictAfter: 1000 }, { overflow: 'drop-oldest' }, { overflow: 'drop-newest' }] as const) {
    const name = `no.lease.${JSON.stringify(options).length}`
    const other = await bus.publisher(name, options)
    const reader = await bus.subscriber(name)
    await reader.attached()
    other.send(payload(1))
    t.is(await codeOf(() => reader.batches({ lifetime: 'lease' }).next()), 'ERR_RINGBELL_INVALID_OPTION', name)
    t.is(reader.tryReceive()?.byteLength, payload(1).length)
  }
  publisher.send(payload(9))
  const view = subscriber.tryReceiveBatch({ lifetime: 'lease' })?.data(0) as Uint8Array
  t.is(view.byteLength, payload(9).length)
  await subscriber.close()
  t.is(view.byteLength, 0)
})

test('a subscriber that stalls beyond evictAfter is evicted and told', async (t) => {
  const bus = await place(t).bus()
  // Long enough that the lively one is not taken for stalled because its process had no turn.
  const publisher = await bus.publisher('ticks', { capacity: 4096, evictAfter: 2000 })
  const stalled = await bus.subscriber('ticks')
  const lively = await bus.subscriber('ticks')
  await Promise.all([stalled.attached(), lively.attached()])
  const events: string[] = []
  stalled.on('evicted', () => events.push('evicted'))
  stalled.on('ended', () => events.push('ended'))
  lively.on('evicted', () => t.fail('the wrong one'))
  let got = 0
  const listening = lively.listen(() => got++)
  for (let number = 0; number < 500; number++) while (!publisher.send(payload(number))) await publisher.ready()
  await until(() => got === 500 && events.length === 2)
  listening.stop()
  t.deepEqual(events, ['evicted', 'ended'])
  t.deepEqual(stalled.publishers, [])
  t.is(publisher.stats().evicted, 1)
  t.is(publisher.subscribers, 1)
})
