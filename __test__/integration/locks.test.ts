/** Locks by name from JavaScript: turns between buses, processes and threads, waits that end, and what is left by the dead. */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import test from 'ava'
import type { Bus, Lock } from 'ringbell'
import { PATIENCE_MS } from '../helpers/patience.js'
import { peer } from '../helpers/peer.js'
import { codeOf, place, until } from '../helpers/place.js'
import { rungs } from '../helpers/rungs.js'

const names = (locks: readonly { name: string }[]): string[] => locks.map(({ name }) => name).sort()

test('one holder at a time, or many that share', async (t) => {
  const at = place(t)
  const [one, other] = [await at.bus(), await at.bus()]
  const first = await one.locks.acquire('a')
  t.deepEqual([first.name, first.mode, first.abandoned], ['a', 'exclusive', false])
  t.is(await other.locks.tryAcquire('a'), undefined)
  t.is(await one.locks.tryAcquire('a'), undefined)
  const waiting = other.locks.acquire('a', { mode: 'shared' })
  await until(async () => (await one.locks.query('a')).pending.length === 1)
  t.deepEqual(await one.locks.query(), {
    held: [{ name: 'a', mode: 'exclusive', pid: process.pid }],
    pending: [{ name: 'a', mode: 'shared', pid: process.pid }],
  })
  first.release()
  first.release()
  const shared = await waiting
  t.deepEqual([shared.mode, shared.abandoned], ['shared', false])
  const second = await one.locks.tryAcquire('a', { mode: 'shared' })
  t.is(await one.locks.tryAcquire('a'), undefined)
  second?.release()
  await shared[Symbol.asyncDispose]()
  const last = await one.locks.tryAcquire('a')
  t.truthy(last)
  last?.[Symbol.dispose]()
  t.deepEqual(await other.locks.query('a'), { held: [], pending: [] })
})

test('a request calls back with the lock, and gives it back whatever the callback does', async (t) => {
  const at = place(t)
  const bus = await at.bus()
  const seen: unknown[] = []
  const inside = async (lock: Lock): Promise<number> => {
    seen.push(lock.mode)
    await bus.locks.request('a', { ifAvailable: true }, (none) => seen.push(none))
    return 7
  }
  t.is(await bus.locks.request('a', inside), 7)
  t.is(await bus.locks.request('a', { mode: 'shared' }, async () => 8), 8)
  t.deepEqual(seen, ['exclusive', null])
  const error = new Error('mine')
  t.is(
    await t.throwsAsync(
      bus.locks.request('a', () => {
        throw error
      }),
    ),
    error,
  )
  t.is(await bus.locks.request('a', { ifAvailable: true }, (lock) => lock?.abandoned), false)
  const refused = await t.throwsAsync(bus.locks.request('a', { steal: true } as object, () => undefined))
  t.regex(refused.message, /steal .* a process that stands still cannot be told/)
  t.is(await codeOf(() => bus.locks.request('a', undefined as never)), 'ERR_RINGBELL_INVALID_OPTION')
  t.is(await codeOf(() => bus.locks.request('a', {}, 1 as never)), 'ERR_RINGBELL_INVALID_OPTION')
})

test('a wait ends by its signal or its time, and leaves nothing behind', async (t) => {
  const at = place(t)
  const [bus, other] = [await at.bus(), await at.bus()]
  const held = await bus.locks.acquire('x')
  const stop = new AbortController()
  const stopped = other.locks.acquire('x', { signal: stop.signal })
  await until(async () => (await bus.locks.query('x')).pending.length === 1)
  stop.abort()
  t.is(await codeOf(() => stopped), 'ABORT_ERR')
  t.is(await codeOf(() => other.locks.acquire('x', { signal: AbortSignal.abort() })), 'ABORT_ERR')
  t.is(await codeOf(() => other.locks.acquire('fresh', { signal: AbortSignal.abort() })), 'ABORT_ERR')
  t.is(await codeOf(() => other.locks.acquire('x', { timeout: 10 })), 'ERR_RINGBELL_TIMEOUT')
  t.is(await codeOf(() => other.locks.request('x', { timeout: 0 }, () => undefined)), 'ERR_RINGBELL_TIMEOUT')
  t.deepEqual((await bus.locks.query('x')).pending, [])
  held.release()
  t.truthy(await other.locks.tryAcquire('x'))
})

test('an opening that nobody waits for any more does no harm', async (t) => {
  const at = place(t)
  const bus = await at.bus()
  const stop = new AbortController()
  const opening = [bus.locks.acquire('x', { signal: stop.signal }), bus.locks.open('y', { signal: stop.signal })]
  const isOpen = (): boolean => bus.services.list().some(({ name }) => name === 'lock.y')
  // The answer is on its way, and cannot come as long as this does not return to the event loop.
  for (const end = performance.now() + PATIENCE_MS / 2; !isOpen() && performance.now() < end;);
  t.true(isOpen())
  stop.abort()
  for (const one of opening) t.is(await codeOf(() => one), 'ABORT_ERR')
  await until(() => !isOpen())
  t.truthy(await bus.locks.tryAcquire('x'))
})

test('more requests than a process has places for are all served', async (t) => {
  const at = place(t)
  const [one, other] = [await at.bus(), await at.bus()]
  let inside = 0
  let most = 0
  const use = async (): Promise<void> => {
    most = Math.max(most, ++inside)
    await new Promise(setImmediate)
    inside--
  }
  const all = Array.from({ length: 60 }, (_, n) => (n % 2 === 0 ? one : other).locks.request('x', use))
  await Promise.all(all)
  t.deepEqual([most, inside], [1, 0])
})

test('closing the bus gives back and ends waits; closing a handle does so for what came through it', async (t) => {
  const at = place(t)
  const [bus, other] = [await at.bus(), await at.bus()]
  const handle = await bus.locks.open('x')
  const held = handle.tryAcquire()
  t.is(handle.tryAcquire({ mode: 'shared' }), undefined)
  const waiting = handle.acquire()
  const elsewhere = other.locks.acquire('x')
  await handle.close()
  await handle.close()
  t.true(handle.closed)
  t.is(await codeOf(() => waiting), 'ERR_RINGBELL_CLOSED')
  t.is(await codeOf(() => handle.acquire()), 'ERR_RINGBELL_CLOSED')
  t.is(await codeOf(() => handle.tryAcquire()), 'ERR_RINGBELL_CLOSED')
  t.false((await elsewhere).abandoned)
  held?.release()
  t.is(await bus.locks.tryAcquire('x'), undefined)
  const next = bus.locks.acquire('x')
  await until(async () => (await bus.locks.query('x')).pending.length === 1)
  await other.close()
  t.false((await next).abandoned)
  const last = bus.locks.acquire('x')
  const opening = bus.locks.acquire('y')
  await bus.close()
  for (const call of [() => last, () => opening, () => bus.locks.acquire('x'), () => bus.locks.query()])
    t.is(await codeOf(call), 'ERR_RINGBELL_CLOSED')
})

test('many names come and go, and one that is held stays open', async (t) => {
  const at = place(t)
  const bus = await at.bus()
  const held = await bus.locks.acquire('held')
  for (let n = 0; n < 40; n++) (await bus.locks.acquire(`n${n}`)).release()
  const open = bus.services.list().filter(({ kind }) => kind === 'lock')
  t.is(open.length, 32)
  t.true(open.some(({ name }) => name === 'lock.held'))
  t.deepEqual(names((await bus.locks.query()).held), ['held'])
  held.release()
})

test('processes take turns', async (t) => {
  const at = place(t, { untidy: true })
  const file = join(at.path, 'total')
  writeFileSync(file, '0')
  const peers = [1, 2, 3, 4].map(() => peer(at, 'lock.mjs', ['add', 'x', file]))
  for (const one of peers) await one.tells('done')
  t.is(readFileSync(file, 'utf8'), '200')
})

test('the next holder learns that the one before was killed', async (t) => {
  const at = place(t, { untidy: true })
  const bus = await at.bus()
  const holder = peer(at, 'lock.mjs', ['hold', 'x'])
  t.false((await holder.tells('held'))['abandoned'])
  const other = peer(at, 'lock.mjs', ['hold', 'x'])
  await until(async () => (await bus.locks.query('x')).pending.length === 1)
  holder.kill()
  t.true((await other.tells('held'))['abandoned'])
  other.ask('release')
  t.false((await bus.locks.acquire('x')).abandoned)
})

test('a holder that exits in the middle has abandoned its lock, one that gives back has not', async (t) => {
  const at = place(t)
  const bus = await at.bus()
  const keeps = await bus.locks.open('x')
  await peer(at, 'lock.mjs', ['exit', 'x']).end
  const lock = await keeps.acquire()
  t.true(lock.abandoned)
  lock.release()
  t.false((await keeps.acquire()).abandoned)
})

test('a terminated worker gives back what it holds, and stops waiting', async (t) => {
  const at = place(t)
  const bus = await at.bus()
  const start = async (bus: Bus, waits: boolean): Promise<Worker> => {
    const workerData = { path: bus.path, name: 'x', waits }
    const worker = new Worker(new URL('../fixtures/worker-lock.mjs', import.meta.url), { workerData, execArgv: [] })
    await new Promise((there, failed) => worker.once('message', there).once('error', failed))
    return worker
  }
  const holds = await start(bus, false)
  const waits = await start(bus, true)
  t.is((await bus.locks.query('x')).pending.length, 1)
  await waits.terminate()
  t.is((await bus.locks.query('x')).pending.length, 0)
  const next = bus.locks.acquire('x')
  await holds.terminate()
  t.true((await next).abandoned)
})

test('a holder that stands still keeps its lock', async (t) => {
  const at = place(t, { untidy: true })
  const bus = await at.bus()
  const holder = peer(at, 'lock.mjs', ['hold', 'x'])
  await holder.tells('held')
  holder.kill('SIGSTOP')
  t.is(await codeOf(() => bus.locks.acquire('x', { timeout: 50 })), 'ERR_RINGBELL_TIMEOUT')
  t.is((await bus.locks.query('x')).held[0]?.pid, holder.pid)
  holder.kill('SIGCONT')
  holder.ask('release')
  t.false((await bus.locks.acquire('x')).abandoned)
})

// Locks have no streams: who forces that rung gets the best other one.
for (const rung of rungs)
  test(`a lock is joined where ${rung} is forced, and outlives its maker`, async (t) => {
    const at = place(t)
    const maker = await at.bus()
    const joins = await at.bus({ acquire: rung })
    const held = await maker.locks.acquire('x')
    t.is(await joins.locks.tryAcquire('x'), undefined)
    held.release()
    const lock = await joins.locks.acquire('x')
    await maker.close()
    const third = await at.bus({ acquire: rung })
    t.is(await third.locks.tryAcquire('x'), undefined)
    lock.release()
    t.false((await third.locks.acquire('x')).abandoned)
  })

test('what is wrong is named', async (t) => {
  const at = place(t)
  const bus = await at.bus()
  for (const name of ['../x', '', 1 as never, 'x'.repeat(65)])
    t.is(await codeOf(() => bus.locks.acquire(name)), 'ERR_RINGBELL_INVALID_NAME')
  for (const options of [{ mode: 'mine' }, { timeout: -1 }, { signal: 1 }, { wait: true }])
    t.is(await codeOf(() => bus.locks.acquire('x', options as never)), 'ERR_RINGBELL_INVALID_OPTION')
  t.is(await codeOf(() => bus.locks.tryAcquire('x', { timeout: 1 } as never)), 'ERR_RINGBELL_INVALID_OPTION')
  t.deepEqual(await bus.locks.query(), { held: [], pending: [] })
})
