/** Semaphores, flags and sharded mutexes from JavaScript. */
import test from 'ava'
import { peer } from '../helpers/peer.js'
import { codeOf, place, until } from '../helpers/place.js'

test('permits are counted, and given in the order of the requests', async (t) => {
  const at = place(t)
  const [one, other] = [await at.bus(), await at.bus()]
  const semaphore = await one.semaphore('s', { permits: 3 })
  const same = await other.semaphore('s', { permits: 3 })
  t.deepEqual([semaphore.name, semaphore.permits, semaphore.available], ['s', 3, 3])
  const two = await semaphore.acquire(2)
  t.deepEqual([two.count, same.available, same.tryAcquire(2)], [2, 1, undefined])
  const order: string[] = []
  const many = same.acquire(3).then((permits) => (order.push('three'), permits))
  await until(() => same.tryAcquire() === undefined)
  const few = semaphore.acquire().then((permits) => (order.push('one'), permits))
  t.is(await codeOf(() => same.acquire(1, { timeout: 10 })), 'ERR_RINGBELL_TIMEOUT')
  t.is(await codeOf(() => same.acquire(1, { signal: AbortSignal.timeout(10) })), 'ABORT_ERR')
  two.release()
  ;(await many).release()
  ;(await few).release()
  t.deepEqual(order, ['three', 'one'])
  t.is(await semaphore.use({ permits: 2 }, ({ count }) => [count, semaphore.available].join()), '2,1')
  t.is(await semaphore.use(async () => semaphore.available), 2)
  t.is(semaphore.available, 3)
})

test('the permits of the dead come back', async (t) => {
  const at = place(t, { untidy: true })
  const bus = await at.bus()
  const semaphore = await bus.semaphore('s', { permits: 3 })
  const holder = peer(at, 'lock.mjs', ['permits', 's', 2])
  await holder.tells('held')
  t.is(semaphore.available, 1)
  const all = semaphore.acquire(3)
  holder.kill()
  t.is((await all).count, 3)
})

test('what is granted to a wait that is given up is given back', async (t) => {
  const at = place(t)
  const bus = await at.bus()
  const semaphore = await bus.semaphore('s', { permits: 1 })
  const mutex = await bus.shardedMutex('m', { shards: 1 })
  type Take = (options?: { signal: AbortSignal }) => Promise<{ release(): void }>
  const takes: Take[] = [
    (options) => bus.locks.acquire('x', options),
    (options) => bus.locks.acquire('x', { ...options, mode: 'shared' }),
    (options) => semaphore.acquire(1, options),
    (options) => mutex.acquire('key', options),
  ]
  for (const [index, take] of takes.entries()) {
    // The grant and the abort meet at a different point each time.
    for (let round = 0; round < 20; round++) {
      const held = await (index === 1 ? bus.locks.acquire('x') : take())
      const stop = new AbortController()
      const waiting = codeOf(() => take({ signal: stop.signal }))
      for (let turn = 0; turn < round % 4; turn++) await new Promise(setImmediate)
      held.release()
      // The answer cannot come as long as this does not return to the event loop.
      for (const end = performance.now() + (round % 5); performance.now() < end;);
      stop.abort()
      t.is(await waiting, 'ABORT_ERR')
      const next = await take()
      next.release()
    }
  }
})

test('a semaphore that is closed gives back its permits', async (t) => {
  const at = place(t)
  const bus = await at.bus()
  const [semaphore, same] = [await bus.semaphore('s', { permits: 1 }), await bus.semaphore('s', { permits: 1 })]
  const held = await semaphore.acquire()
  const waiting = semaphore.acquire()
  await semaphore.close()
  t.is(await codeOf(() => waiting), 'ERR_RINGBELL_CLOSED')
  t.is(await codeOf(() => semaphore.available), 'ERR_RINGBELL_CLOSED')
  const next = same.tryAcquire()
  t.truthy(next)
  held.release()
  t.is(same.available, 0)
})

test('a flag changes at once, and is waited for', async (t) => {
  const at = place(t)
  const [one, other] = [await at.bus(), await at.bus()]
  const [flag, same] = [await one.flag('f'), await other.flag('f')]
  t.deepEqual([flag.get(), flag.swap(true), same.get()], [false, false, true])
  t.deepEqual([same.compareAndSwap(false, true), same.compareAndSwap(true, false), flag.get()], [false, true, false])
  await flag.waitFor(false)
  const waits = [flag.waitFor(true), same.waitFor(true, { timeout: 60_000 })]
  t.is(await codeOf(() => flag.waitFor(true, { timeout: 10 })), 'ERR_RINGBELL_TIMEOUT')
  t.is(await codeOf(() => flag.waitFor(true, { signal: AbortSignal.timeout(10) })), 'ABORT_ERR')
  same.set()
  await Promise.all(waits)
  const cleared = same.waitFor(false)
  const never = same.waitFor(false)
  flag.clear()
  await Promise.all([cleared, never])
  const late = same.waitFor(true)
  await same.close()
  t.is(await codeOf(() => late), 'ERR_RINGBELL_CLOSED')
  t.is(await codeOf(() => same.get()), 'ERR_RINGBELL_CLOSED')
})

test('keys are locked by their shards, several at once without a circle', async (t) => {
  const at = place(t)
  const [one, other] = [await at.bus(), await at.bus()]
  const [mutex, same] = [await one.shardedMutex('m', { shards: 16 }), await other.shardedMutex('m', { shards: 16 })]
  t.is(mutex.shards, 16)
  const held = await mutex.acquire(['a', Buffer.from('b')])
  t.deepEqual([held.name, held.abandoned], ['m', false])
  t.is(await codeOf(() => same.withKey(Buffer.from('a'), { timeout: 10 }, () => 1)), 'ERR_RINGBELL_TIMEOUT')
  t.is(await codeOf(() => same.withKeys(['x', 'b'], { signal: AbortSignal.timeout(10) }, () => 1)), 'ABORT_ERR')
  held.release()
  t.is(await same.withKey('a', async (lock) => lock.name), 'm')
  const keys = Array.from({ length: 40 }, (_, n) => `key${n}`)
  let turns = 0
  const all = keys.map((key, n) => {
    const some = [key, keys[(n * 7 + 3) % 40] ?? '', keys[(n * 13 + 5) % 40] ?? '']
    return (n % 2 === 0 ? mutex : same).withKeys(n % 3 === 0 ? some.reverse() : some, async () => {
      await new Promise(setImmediate)
      turns++
    })
  })
  await Promise.all(all)
  t.is(turns, 40)
})

test('all open a name alike, and what is wrong is named', async (t) => {
  const at = place(t)
  const bus = await at.bus()
  const semaphore = await bus.semaphore('s', { permits: 3 })
  const mutex = await bus.shardedMutex('m')
  const flag = await bus.flag('f')
  t.is(mutex.shards, 64)
  const invalid: (() => unknown)[] = [
    () => bus.semaphore('s', { permits: 4 }),
    () => bus.semaphore('t', { permits: 0 }),
    () => bus.semaphore('t', {} as never),
    () => bus.semaphore('t', undefined as never),
    () => bus.shardedMutex('m', { shards: 32 }),
    () => bus.shardedMutex('n', { shards: 3 }),
    () => semaphore.acquire(4),
    () => semaphore.tryAcquire(0),
    () => semaphore.use({ permits: 1 }, undefined as never),
    () => flag.swap(1 as never),
    () => flag.swap(undefined as never),
    () => flag.waitFor(undefined as never),
    () => flag.compareAndSwap(undefined as never, true),
    () => (flag.set as (value: boolean) => void)(false),
    () => (flag.clear as (value: boolean) => void)(true),
    () => flag.waitFor('yes' as never),
    () => mutex.withKey(1 as never, () => 1),
    () => mutex.withKeys([undefined as never], () => 1),
  ]
  for (const call of invalid) t.is(await codeOf(call), 'ERR_RINGBELL_INVALID_OPTION')
  t.false(flag.get())
  const texts: [() => unknown, RegExp][] = [
    [() => flag.waitFor(true, { timeout: 1 }), /^The flag 'f' was not seen true within 1 ms\.$/],
    [() => bus.semaphore('t', { permits: 0 }), /from 1 to 16777215/],
    [() => semaphore.acquire(0), /from 1 to 3/],
    [() => semaphore.use({ permits: 4 }, () => 1), /from 1 to 3/],
    [() => bus.shardedMutex('n', { shards: 0 }), /from 1 to 1024/],
    [() => bus.locks.acquire('x'.repeat(60)), /with the kind and a dot before it/],
  ]
  for (const [call, text] of texts) t.regex((await t.throwsAsync(async () => call())).message, text)
  t.is(await codeOf(() => bus.flag('no/name')), 'ERR_RINGBELL_INVALID_NAME')
  t.is(await codeOf(() => bus.flag('g', { signal: AbortSignal.abort() })), 'ABORT_ERR')
})
