/** Groups that are stopped, or fail, in the middle of something: nothing goes on behind, and each wait ends. */
import { once } from 'node:events'
import { chmodSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { type Bus, type RingbellError } from 'ringbell'
import {
  type ExitStatus,
  type GroupInstance,
  managersOn,
  ServiceGroup,
  type ServiceGroupOptions,
} from 'ringbell/supervise'
import { codeOf, type Place, place, until } from '../../helpers/place.js'
import { folder, runs } from '../../helpers/scratch.js'

/** A group of what a shell does. */
function shells(at: Place, bus: Bus, script: string, options: Partial<ServiceGroupOptions> = {}): ServiceGroup {
  const group = new ServiceGroup(bus, {
    service: 'price',
    command: 'sh',
    args: ['-c', script],
    replicas: 1,
    readiness: 'started',
    readyTimeout: 60_000,
    ...(options.output === undefined ? { stdio: 'ignore' as const } : {}),
    ...options,
  })
  at.onEnd(() => group.stop({ grace: 0 }))
  return group
}

test('a stop during a restart starts nothing any more', async (t) => {
  const at = place(t)
  const file = join(folder(t), 'pids')
  const group = shells(at, await at.bus(), `echo $$ >>${file}; exec sleep 1000`, { replicas: 2 })
  await group.start()
  const ready = once(group, 'ready')
  const restart = codeOf(() => group.restart())
  await ready
  await group.stop()
  t.is(await restart, 'ERR_RINGBELL_CLOSED')
  t.is(group.aliveCount, 0)
  for (const pid of readFileSync(file, 'utf8').trim().split('\n')) t.false(runs(Number(pid)), pid)
  t.is(await codeOf(() => group.start()), undefined, 'it can be started again')
  t.is(group.aliveCount, 2)
})

test('a stop that is called after a start wins, whatever was going on', async (t) => {
  const at = place(t)
  const group = shells(at, await at.bus(), 'exec sleep 1000')
  const first = codeOf(() => group.start())
  const stops = [group.stop()]
  const second = codeOf(() => group.start())
  stops.push(group.stop())
  await Promise.all(stops)
  t.deepEqual(await Promise.all([first, second]), ['ERR_RINGBELL_CLOSED', 'ERR_RINGBELL_CLOSED'])
  t.is(group.aliveCount, 0)
  t.deepEqual(at.files(), [])
})

test('a second stop may shorten the grace of the first', async (t) => {
  const at = place(t)
  const lines: string[] = []
  const group = shells(at, await at.bus(), `trap '' TERM; echo deaf; while :; do sleep 0.1; done`, {
    output: (line) => void lines.push(line),
    tied: 'tree',
  })
  await group.start()
  await until(() => lines.includes('deaf'))
  const stop = group.stop({ grace: 3_600_000 })
  await group.stop({ grace: 0 })
  await stop
  t.is(group.aliveCount, 0)
})

test('a replacement that cannot be started leaves the place as it was: it is tried again after a pause', async (t) => {
  const at = place(t)
  const command = join(folder(t), 'command')
  writeFileSync(command, '#!/bin/sh\nexit 1\n')
  chmodSync(command, 0o755)
  const group = shells(at, await at.bus(), '', { command, args: [], backoff: { delay: 60_000 }, maxRestarts: 1000 })
  let respawns = 0
  group.on('respawn', () => respawns++)
  void codeOf(() => group.start())
  await until(() => respawns === 1)
  renameSync(command, `${command}-gone`)
  t.is(await codeOf(() => group.restart()), 'ERR_RINGBELL_SYSTEM')
  await new Promise((done) => setImmediate(done))
  t.is(respawns, 2)
  t.is(group.instances[0]?.state, 'backoff')
})

test('without respawn, one that ends before it is ready has failed', async (t) => {
  const at = place(t)
  const group = shells(at, await at.bus(), 'exit 3', { readiness: 'announced', autoRespawn: false })
  const ends: [GroupInstance, ExitStatus][] = []
  const failures: RingbellError[] = []
  group.on('exit', (...end) => ends.push(end as never)).on('failed', (error) => failures.push(error))
  t.is(await codeOf(() => group.start()), 'ERR_RINGBELL_EXITED')
  t.is(failures[0]?.code, 'ERR_RINGBELL_EXITED')
  t.is(ends[0]?.[0].state, 'failed')
  t.is(group.instances[0]?.state, 'failed')
})

test('the last line comes with its pid and before the end, also if something else keeps the output', async (t) => {
  const at = place(t)
  const told: string[] = []
  const ends: GroupInstance[] = []
  const group = shells(at, await at.bus(), 'sleep 1000 & echo $!; printf last', {
    autoRespawn: false,
    output: (line, _, { pid }) => void told.push(`${line} of ${pid}`),
  })
  group.on('exit', (instance) => {
    told.push('exit')
    ends.push(instance)
  })
  await group.start()
  await until(() => ends.length > 0)
  const pid = ends[0]?.pid as number
  const sleeper = Number.parseInt(told[0] ?? '', 10)
  t.teardown(() => process.kill(sleeper, 'SIGKILL'))
  t.deepEqual(told, [`${sleeper} of ${pid}`, `last of ${pid}`, 'exit'])
  t.is(ends[0]?.state, 'stopped')
})

test('a listener of output that returns a promise sets the pace', async (t) => {
  const at = place(t)
  let lines = 0
  const taken: (() => void)[] = []
  const group = shells(at, await at.bus(), 'exec yes', {
    output: () => {
      lines++
      return new Promise<void>((resolve) => taken.push(resolve))
    },
  })
  await group.start()
  await until(() => lines > 0)
  const [pid] = group.instances.map((one) => one.pid)
  // It sleeps in its write, and what it has written stays the same.
  const written = (): string => readFileSync(`/proc/${pid}/io`, 'utf8').split('\n')[1] ?? ''
  await until(async () => {
    const before = written()
    await new Promise((done) => setTimeout(done, 100))
    return before === written()
  })
  const before = lines
  for (const take of taken) take()
  t.true(await until(() => lines > before))
})

test('a group that cannot be announced can be started later', async (t) => {
  const at = place(t)
  const bus = await at.bus()
  let broken = true
  const failing = new Proxy(bus, {
    get(target, name) {
      if (name === 'serve' && broken) return () => Promise.reject(new Error('not now'))
      const value: unknown = Reflect.get(target, name, target)
      return typeof value === 'function' ? (value.bind(target) as unknown) : value
    },
  })
  const group = shells(at, failing, 'exec sleep 1000')
  await t.throwsAsync(group.start(), { message: 'not now' })
  t.is(group.aliveCount, 0)
  broken = false
  await group.start()
  t.is(group.aliveCount, 1)
  t.is(managersOn(bus).length, 1)
})

test('what other processes ask with wrong options is refused, and ends nothing', async (t) => {
  const at = place(t)
  const bus = await at.bus()
  const group = shells(at, bus, 'exec sleep 1000')
  await group.start()
  const [manager] = managersOn(bus)
  t.is(await codeOf(() => manager?.stop({ grace: -1 })), 'ERR_RINGBELL_INVALID_OPTION')
  t.is(await codeOf(() => manager?.stop('1s' as never)), 'ERR_RINGBELL_INVALID_OPTION')
  t.is(await codeOf(() => manager?.logs({ lines: -1 })), 'ERR_RINGBELL_INVALID_OPTION')
  const client = await bus.connect<object, unknown>('price.manager', { codec: 'json' })
  for (const request of [
    { method: 'stop', grace: -1 },
    { method: 'logs', lines: 'all' },
  ])
    t.like(await t.throwsAsync(client.call(request)), { remoteCode: 'ERR_RINGBELL_INVALID_OPTION' })
  await client.close()
  t.is(group.instances[0]?.state, 'ready')
})
