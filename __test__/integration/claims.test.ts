/** Claims from JavaScript: one holder, epochs that grow, waits that end, and what others hear of it. */
import { renameSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import test from 'ava'
import type { AsyncIteration, Bus, ClaimState } from 'ringbell'
import { peer } from '../helpers/peer.js'
import { codeOf, place, until } from '../helpers/place.js'

async function heldBy(watch: AsyncIteration<ClaimState>, pid: number | undefined): Promise<number> {
  for (;;) {
    const { value } = await watch.next()
    if (value === undefined) throw new Error('the watch has ended')
    if (value.holder?.pid === pid) return value.epoch
  }
}

test('one process holds a name, and the next one has a larger epoch', async (t) => {
  const at = place(t)
  const [one, other] = [await at.bus(), await at.bus({ watch: 'poll', pollInterval: 5 })]
  const watch = other.claims.watch('leader')
  t.is(await heldBy(watch, undefined), 0)
  const first = await one.claim('leader')
  t.deepEqual([first.name, first.held, Number.isSafeInteger(first.epoch)], ['leader', true, true])
  t.is(await heldBy(watch, process.pid), first.epoch)
  t.is(await other.claim('leader', { ifAvailable: true }), undefined)
  t.like(other.claims.query('leader'), { epoch: first.epoch, holder: { pid: process.pid } })
  const waiting = other.claim('leader')
  await first.release()
  await first.release()
  t.false(first.held)
  const second = await waiting
  t.true(second.epoch > first.epoch)
  await second[Symbol.asyncDispose]()
  t.deepEqual(one.claims.query('leader'), { epoch: second.epoch, holder: undefined })
  t.true((await one.claim('leader', { ifAvailable: true })) !== undefined)
})

test('a wait ends by its signal, and leaves nothing behind', async (t) => {
  const at = place(t)
  const bus = await at.bus()
  const held = await bus.claim('x')
  t.is(await codeOf(() => bus.claim('x', { signal: AbortSignal.timeout(10) })), 'ABORT_ERR')
  t.is(await codeOf(() => bus.claim('x', { signal: AbortSignal.abort() })), 'ABORT_ERR')
  const watch = bus.claims.watch('x', { signal: AbortSignal.timeout(10) })
  await watch.next()
  t.is(await codeOf(() => watch.next()), 'ABORT_ERR')
  await held.release()
  t.true((await bus.claim('x', { ifAvailable: true }))?.held)
})

test('closing the bus ends waits and claims', async (t) => {
  const at = place(t)
  const [bus, other] = [await at.bus(), await at.bus()]
  const held = await bus.claim('x')
  const waiting = bus.claim('x')
  const watch = bus.claims.watch('x')
  await watch.next()
  const next = watch.next()
  await bus.close()
  t.is((await held.lost).code, 'ERR_RINGBELL_CLOSED')
  t.is(await codeOf(() => waiting), 'ERR_RINGBELL_CLOSED')
  t.deepEqual(await next, { value: undefined, done: true })
  for (const call of [() => bus.claim('x'), () => bus.claims.query('x'), () => bus.claims.watch('x')])
    t.is(await codeOf(call), 'ERR_RINGBELL_CLOSED')
  t.true((await other.claim('x', { ifAvailable: true }))?.held)
})

test('a killed holder is followed by the next one', async (t) => {
  const at = place(t)
  const bus = await at.bus()
  const holder = peer(at, 'claim.mjs', ['x'])
  const epoch = (await holder.tells('held'))['epoch'] as number
  const waiting = bus.claim('x')
  holder.kill()
  t.true((await waiting).epoch > epoch)
})

test('a holder keeps its claim when the directory is lost, and hears of it when it cannot', async (t) => {
  const at = place(t)
  const holder = peer(at, 'claim.mjs', ['x'])
  const epoch = (await holder.tells('held'))['epoch'] as number
  const state = async (): Promise<ClaimState> => (await at.bus()).claims.query('x')
  renameSync(at.path, `${at.path}-old`)
  await until(async () => (await state()).holder?.pid === holder.pid && (await state()).epoch === epoch)
  holder.kill('SIGSTOP')
  renameSync(at.path, `${at.path}-older`)
  const bus = await at.bus()
  const next = await bus.claim('x')
  t.true(next.epoch > epoch)
  holder.kill('SIGCONT')
  t.is((await holder.tells('lost'))['code'], 'ERR_RINGBELL_CLAIM_LOST')
  t.true(next.held)
})

test('a terminated worker gives back what it holds, and stops waiting', async (t) => {
  const at = place(t)
  const bus = await at.bus()
  const start = async (bus: Bus, waits: boolean): Promise<Worker> => {
    const workerData = { path: bus.path, name: 'x', waits }
    const worker = new Worker(new URL('../fixtures/worker-claim.mjs', import.meta.url), { workerData, execArgv: [] })
    await new Promise((there, failed) => worker.once('message', there).once('error', failed))
    return worker
  }
  const holds = await start(bus, false)
  const waits = await start(bus, true)
  t.is(await bus.claim('x', { ifAvailable: true }), undefined)
  await waits.terminate()
  await holds.terminate()
  t.true((await bus.claim('x')).held)
})

test('what is wrong is named', async (t) => {
  const at = place(t, { untidy: true })
  const bus = await at.bus()
  symlinkSync('/etc/passwd', join(at.path, 'link.claim'))
  t.is(await codeOf(() => bus.claim('link')), 'ERR_RINGBELL_BUS_DIRECTORY')
  t.is(await codeOf(() => bus.claims.watch('link').next()), 'ERR_RINGBELL_BUS_DIRECTORY')
  t.is(await codeOf(() => bus.claim('../x')), 'ERR_RINGBELL_INVALID_NAME')
  t.is(await codeOf(() => bus.claims.query(1 as unknown as string)), 'ERR_RINGBELL_INVALID_NAME')
  t.is(await codeOf(() => bus.claim('x', { timeout: 1 } as object)), 'ERR_RINGBELL_INVALID_OPTION')
})
