/** Service groups: places are kept up, whatever their processes do. What members do is in failover.test.ts. */
import { readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import test from 'ava'
import { type RingbellError } from 'ringbell'
import { type ExitStatus, type GroupInstance, instancesOn, managersOn, ServiceGroup } from 'ringbell/supervise'
import { Child } from '../../helpers/child.js'
import { groupOf, heard, pidsOf, WORKER } from '../../helpers/groups.js'
import { codeOf, place, until } from '../../helpers/place.js'
import { folder, runs } from '../../helpers/scratch.js'

test('a group starts its instances, and ends all of them with one grace', async (t) => {
  const at = place(t)
  const bus = await at.bus()
  const group = groupOf(at, bus, 'serve', { replicas: 3 })
  const events = heard(group)
  await group.start()
  t.is(group.aliveCount, 3)
  t.deepEqual(
    group.instances.map(({ instance, state, role, restarts }) => ({ instance, state, role, restarts })),
    ['0', '1', '2'].map((instance) => ({ instance, state: 'ready' as const, role: undefined, restarts: 0 })),
  )
  await until(() => events.length === 3)
  const pids = pidsOf(group)
  await group.stop()
  t.is(group.aliveCount, 0)
  for (const pid of pids) t.false(runs(pid))
  t.true(group.instances.every(({ state, pid }) => state === 'stopped' && pid === undefined))
  await until(() => events.includes('stopped'))
  t.deepEqual(events.slice().sort(), ['exit', 'exit', 'exit', 'ready', 'ready', 'ready', 'stopped'])
  // It can be started again.
  await group.start()
  t.is(group.aliveCount, 3)
})

test('an instance that is killed is started again, in its place', async (t) => {
  const at = place(t)
  const bus = await at.bus()
  const group = groupOf(at, bus, 'serve', { minUptime: 0 })
  const delays: number[] = []
  const ends: ExitStatus[] = []
  group.on('respawn', (_, delay) => delays.push(delay)).on('exit', (_, status) => ends.push(status))
  await group.start()
  const [first] = pidsOf(group)
  process.kill(first as number, 'SIGKILL')
  await until(() => group.instances[0]?.state === 'ready' && group.instances[0].pid !== first)
  t.is(group.instances[0]?.restarts, 1)
  t.is(group.instances[1]?.restarts, 0)
  t.deepEqual(delays, [0], 'it has lived for long enough, so there is no pause')
  t.deepEqual(ends, [{ exited: true, exitCode: null, signal: 'SIGKILL' }])
})

test('a crash loop ends as failed, after longer and longer pauses, and the others go on', async (t) => {
  const at = place(t)
  const bus = await at.bus()
  const group = groupOf(at, bus, 'crash', { replicas: 1, backoff: { delay: 8, maxDelay: 20 }, maxRestarts: 3 })
  const delays: number[] = []
  const failures: [RingbellError, GroupInstance][] = []
  group.on('respawn', (_, delay) => delays.push(delay)).on('failed', (...failure) => failures.push(failure))
  const error = await t.throwsAsync<RingbellError>(group.start())
  t.is(error?.code, 'ERR_RINGBELL_EXITED')
  t.is((error?.cause as ExitStatus | undefined)?.exitCode, 3)
  await until(() => failures.length === 1)
  t.is(failures[0]?.[0], error)
  t.is(failures[0]?.[1].state, 'failed')
  t.is(delays.length, 3)
  for (const [at, most] of [10, 20, 25].entries())
    t.true((delays[at] ?? 0) > 0 && (delays[at] ?? 0) <= most, String(delays))
  t.is(group.instances[0]?.state, 'failed')
  t.is(group.instances[0]?.restarts, 3)
})

test('a command that does not exist has failed at once', async (t) => {
  const at = place(t)
  const bus = await at.bus()
  const group = new ServiceGroup(bus, { service: 'price', command: 'no-such-command' })
  at.onEnd(() => group.stop())
  group.on('failed', () => {})
  const error = await t.throwsAsync<RingbellError>(group.start())
  t.is(error?.code, 'ERR_RINGBELL_SYSTEM')
  t.regex(error?.message ?? '', /no-such-command/)
  t.is(group.aliveCount, 0)
})

test('an instance that never gets ready is killed, and has ended early', async (t) => {
  const at = place(t)
  const bus = await at.bus()
  const group = groupOf(at, bus, 'silent', { replicas: 1, readyTimeout: 300, backoff: { delay: 1 }, maxRestarts: 1 })
  const ends: unknown[] = []
  group.on('exit', ({ state }, { signal }, reason) => ends.push([state, signal, reason?.code])).on('failed', () => {})
  t.is(await codeOf(() => group.start()), 'ERR_RINGBELL_TIMEOUT')
  t.deepEqual(ends, [
    ['backoff', 'SIGKILL', 'ERR_RINGBELL_TIMEOUT'],
    ['failed', 'SIGKILL', 'ERR_RINGBELL_TIMEOUT'],
  ])
})

test('one that only has to be started is ready at once, and is not started again if that is not wanted', async (t) => {
  const at = place(t)
  const bus = await at.bus()
  const group = groupOf(at, bus, 'silent', { replicas: 1, readiness: 'started', autoRespawn: false })
  await group.start()
  t.is(group.instances[0]?.state, 'ready')
  process.kill(group.instances[0]?.pid as number, 'SIGKILL')
  await until(() => group.instances[0]?.state === 'stopped')
  t.is(group.aliveCount, 0)
})

test('one that ignores SIGTERM is killed when the grace is over', async (t) => {
  const at = place(t)
  const bus = await at.bus()
  const group = groupOf(at, bus, 'deaf')
  const ends: ExitStatus[] = []
  group.on('exit', (_, status) => ends.push(status))
  await group.start()
  await group.stop({ grace: 100 })
  await until(() => ends.length === 2)
  t.deepEqual(
    ends.map(({ signal }) => signal),
    ['SIGKILL', 'SIGKILL'],
  )
})

test('a stop while instances start leaves none, and tells who waits for the start', async (t) => {
  const at = place(t)
  const bus = await at.bus()
  const group = groupOf(at, bus, 'silent')
  const pids = new Set<number>()
  group.on('exit', ({ pid }) => pids.add(pid as number))
  const start = codeOf(() => group.start())
  await until(() => group.aliveCount === 2)
  await group.stop()
  t.is(await start, 'ERR_RINGBELL_CLOSED')
  t.is(group.aliveCount, 0)
  await until(() => pids.size === 2)
  for (const pid of pids) t.false(runs(pid))
})

test('other processes see a manager, and ask it', async (t) => {
  const at = place(t)
  const bus = await at.bus()
  const lines: string[] = []
  const output = (line: string): void => void lines.push(line)
  const group = groupOf(at, bus, 'serve', { stdio: undefined, output })
  await group.start()
  const other = await at.bus()
  const [manager] = managersOn(other)
  t.is(manager?.service, 'price')
  t.is(manager?.id, group.id)
  t.is(manager?.pid, process.pid)
  const seen = await instancesOn(other, { service: 'price' })
  t.deepEqual(
    seen.map(({ instance, pid, state }) => ({ instance, pid, state })),
    group.instances.map(({ instance, pid, state }) => ({ instance, pid, state })),
  )
  const before = new Set(pidsOf(group))
  const after = await manager?.restart()
  t.deepEqual(
    after?.map(({ state, restarts }) => ({ state, restarts })),
    [0, 1].map(() => ({ state: 'ready' as const, restarts: 1 })),
  )
  t.false(pidsOf(group).some((pid) => before.has(pid)))
  const logged: string[] = []
  for await (const { line, instance, stream } of manager?.logs({ lines: 2 }) ?? [])
    logged.push(`${instance} ${stream} ${line}`)
  t.deepEqual(
    logged.sort(),
    pidsOf(group)
      .map((pid, at) => `${at} stdout serve ${pid}`)
      .sort(),
  )
  const following = manager?.logs({ lines: 0, follow: true })
  const end = following?.next()
  t.deepEqual(
    (await manager?.stop({ grace: 1000 }))?.map(({ state }) => state),
    ['stopped', 'stopped'],
  )
  t.deepEqual(await end, { value: undefined, done: true })
  await until(() => managersOn(other).length === 0)
  t.deepEqual(lines.sort(), [...before, ...(after ?? []).map(({ pid }) => pid)].map((pid) => `serve ${pid}`).sort())
})

test('a replacement that does not get ready leaves the old one in its place', async (t) => {
  const at = place(t)
  const bus = await at.bus()
  const mode = join(folder(t), 'mode')
  writeFileSync(mode, 'serve')
  const script = `exec ${process.execPath} ${WORKER} price $(cat ${mode})`
  const group = groupOf(at, bus, 'serve', { command: 'sh', args: ['-c', script], replicas: 1 })
  await group.start()
  const pids = pidsOf(group)
  writeFileSync(mode, 'crash')
  const error = await t.throwsAsync<RingbellError>(group.restart())
  t.is(error?.code, 'ERR_RINGBELL_EXITED')
  t.deepEqual(pidsOf(group), pids)
  t.is(group.instances[0]?.state, 'ready')
})

test('a group whose directory was emptied goes on with its instances', async (t) => {
  const at = place(t, { untidy: true })
  const bus = await at.bus()
  const group = groupOf(at, bus, 'serve', { replicas: 1 })
  const events = heard(group)
  await group.start()
  const pids = pidsOf(group)
  for (const file of readdirSync(at.path)) rmSync(join(at.path, file), { force: true, recursive: true })
  // Each process announces again what it has.
  await until(() => events.filter((name) => name === 'ready').length === 2)
  await until(() => managersOn(bus).length === 1)
  t.deepEqual(pidsOf(group), pids)
  t.is(group.instances[0]?.state, 'ready')
})

test('an instance that does not announce the service any more is started again', async (t) => {
  const at = place(t)
  const bus = await at.bus()
  const group = groupOf(at, bus, 'leave', { replicas: 1, readyTimeout: 5000, maxRestarts: 100 })
  await group.start()
  const [pid] = pidsOf(group)
  // Longer than a start takes: the same limit is for those that start.
  process.kill(pid as number, 'SIGUSR2')
  await until(() => group.instances[0]?.state === 'starting')
  t.is(group.aliveCount, 1)
  await until(() => group.instances[0]?.state === 'ready' && group.instances[0].pid !== pid)
  // On a slow machine a start may take longer than the limit.
  t.true((group.instances[0]?.restarts ?? 0) >= 1)
})

test('a server that does not answer a connection any more is killed', async (t) => {
  const at = place(t)
  const bus = await at.bus()
  const group = groupOf(at, bus, 'serve', { minUptime: 0, health: 'connect', heartbeat: { interval: 20 } })
  const stalled: GroupInstance[] = []
  group.on('stalled', (instance) => stalled.push(instance))
  await group.start()
  const [pid] = pidsOf(group)
  process.kill(pid as number, 'SIGSTOP')
  await until(() => stalled.some((one) => one.pid === pid))
  await until(() => !runs(pid as number))
  await until(() => group.instances[0]?.state === 'ready' && group.instances[0].pid !== pid)
  t.true((group.instances[0]?.restarts ?? 0) >= 1)
})

test('instances that are no members are taken over as well, when their manager is dead', async (t) => {
  const at = place(t)
  const bus = await at.bus()
  const keeper = fileURLToPath(new URL('../../fixtures/supervise/keeper.mjs', import.meta.url))
  const manager = new Child(process.execPath, [keeper, String(process.pid), '2', 'serve'], {
    env: { IPC_BUS_DIR: at.path },
  })
  at.onEnd(() => manager.ended())
  await manager.shows('started')
  const serving = (): Set<number> =>
    new Set(bus.services.findAll('price').flatMap(({ name, pid }) => (name === 'price' ? pid : [])))
  const before = serving()
  t.is(before.size, 2)
  // While their manager lives, they are not taken.
  const early = groupOf(at, await at.bus(), 'serve', { adopt: true, replicas: 1 })
  await early.start()
  t.false(pidsOf(early).some((pid) => before.has(pid)))
  await early.stop()
  await manager.ended()
  await until(async () => {
    await bus.gc()
    return managersOn(bus).length === 0
  })
  const group = groupOf(at, bus, 'serve', { adopt: true, minUptime: 0 })
  await group.start()
  t.deepEqual(
    pidsOf(group).map((pid) => before.has(pid)),
    [true, true],
    'no new ones were started',
  )
  const [pid] = pidsOf(group)
  process.kill(pid as number, 'SIGKILL')
  await until(() => group.instances[0]?.state === 'ready' && group.instances[0].pid !== pid)
})

test('wrong options are refused with their names', async (t) => {
  const at = place(t)
  const bus = await at.bus()
  const group = (options: object): unknown => new ServiceGroup(bus, { service: 'price', command: 'true', ...options })
  for (const [options, name] of [
    [{ replicas: 0 }, 'replicas'],
    [{ command: '' }, 'command'],
    [{ args: [1] }, 'args'],
    [{ backoff: { delay: 0 } }, 'backoff.delay'],
    [{ heartbeat: { interval: 'x' } }, 'heartbeat.interval'],
    [{ heartbeat: 5 }, 'heartbeat'],
    [{ heartbeat: { interval: 1000, timeout: 100 } }, 'heartbeat.timeout'],
    [{ health: true }, 'health'],
    [{ readiness: 'soon' }, 'readiness'],
    [{ misspelled: 1 }, 'misspelled'],
    [{ output: () => {}, stdio: 'ignore' }, 'stdio'],
  ] as const)
    t.throws(() => group(options), { code: 'ERR_RINGBELL_INVALID_OPTION', message: new RegExp(`\\b${name}\\b`) })
})
