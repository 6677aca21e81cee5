/** Workers that are terminated while they hold, or wait for, what is taken in turns; locks and claims have tests of their own. */
import { Worker } from 'node:worker_threads'
import test from 'ava'
import type { Bus } from 'ringbell'
import { place, until } from '../helpers/place.js'

async function start(bus: Bus, what: string, waits = false): Promise<Worker> {
  const workerData = { path: bus.path, what, waits }
  const worker = new Worker(new URL('../fixtures/worker-turn.mjs', import.meta.url), { workerData, execArgv: [] })
  await new Promise((there, failed) => worker.once('message', there).once('error', failed))
  return worker
}

test('permits come back, and a wait for them ends', async (t) => {
  const bus = await place(t).bus()
  const semaphore = await bus.semaphore('x', { permits: 2 })
  const holds = await start(bus, 'semaphore')
  const waits = await start(bus, 'semaphore', true)
  t.is(semaphore.available, 0)
  const next = semaphore.acquire()
  await waits.terminate()
  await holds.terminate()
  ;(await next).release()
  t.is(semaphore.tryAcquire(2)?.count, 2)
})

test('a shared hold comes back, and is not abandoned', async (t) => {
  const bus = await place(t).bus()
  const holds = await start(bus, 'shared')
  const next = bus.locks.acquire('x')
  await until(async () => (await bus.locks.query('x')).pending.length === 1)
  const waits = await start(bus, 'shared', true)
  await waits.terminate()
  await holds.terminate()
  t.false((await next).abandoned)
})

test('shards come back, and are abandoned', async (t) => {
  const bus = await place(t).bus()
  const mutex = await bus.shardedMutex('x', { shards: 4 })
  const holds = await start(bus, 'mutex')
  const waits = await start(bus, 'mutex', true)
  const next = mutex.acquire('two')
  await waits.terminate()
  await holds.terminate()
  const keys = await next
  t.true(keys.abandoned)
  keys.release()
  t.false((await mutex.acquire('two')).abandoned)
})

test('a wait for a flag ends', async (t) => {
  const bus = await place(t).bus()
  const flag = await bus.flag('x')
  const waits = await start(bus, 'flag', true)
  await waits.terminate()
  t.false(flag.swap(true))
  await flag.waitFor(true)
})

for (const [writer, reader] of [
  ['state', 'reader'],
  ['keyed', 'keyedReader'],
] as const)
  test(`${writer}: its name is free after its writer, and a reader is gone`, async (t) => {
    const bus = await place(t).bus()
    const open = () => (writer === 'state' ? bus.watchState('x') : bus.watchKeyedState('x'))
    const seen = await open()
    const ended = new Promise((done) => seen.once('ended', (_writer, reason) => done(reason)))
    const writes = await start(bus, writer)
    await until(() => seen.writers.length === 1)
    await writes.terminate()
    t.is(await ended, 'closed')
    const own = writer === 'state' ? await bus.state('x') : await bus.keyedState('x')
    await until(() => own.readers === 1)
    const reads = await start(bus, reader, true)
    await until(() => own.readers === 2)
    await reads.terminate()
    await until(() => own.readers === 1)
  })
