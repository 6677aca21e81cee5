/** Groups of members: the members elect, and managers see, replace, take over and kill. */
import { fileURLToPath } from 'node:url'
import test from 'ava'
import { type GroupInstance, instancesOn, type ServiceGroup } from 'ringbell/supervise'
import { Child } from '../../helpers/child.js'
import { groupOf, pidsOf } from '../../helpers/groups.js'
import { codeOf, place, until } from '../../helpers/place.js'
import { runs } from '../../helpers/scratch.js'

const rolesOf = (group: ServiceGroup): unknown[] => group.instances.map(({ role }) => role)
const onePrimary = (group: ServiceGroup): boolean => {
  const roles = rolesOf(group)
  return roles.filter((role) => role === 'primary').length === 1 && !roles.includes(undefined)
}

test('when the primary is killed, a standby takes over, and the dead one comes back as a standby', async (t) => {
  const at = place(t)
  const bus = await at.bus()
  const group = groupOf(at, bus, 'member', { replicas: 3, minUptime: 0 })
  const primaries: GroupInstance[] = []
  group.on('primary', (instance) => primaries.push(instance))
  await group.start()
  await until(() => onePrimary(group))
  const first = group.primary as GroupInstance
  t.is(first.state, 'primary')
  process.kill(first.pid as number, 'SIGKILL')
  await until(() => group.primary !== undefined && group.primary.pid !== first.pid)
  await until(() => onePrimary(group) && group.aliveCount === 3)
  const second = group.primary as GroupInstance
  t.true((second.epoch ?? 0) > (first.epoch ?? 0))
  t.not(second.instance, first.instance)
  const back = group.instances.find(({ instance }) => instance === first.instance)
  t.is(back?.role, 'standby')
  t.is(back?.restarts, 1)
  await until(() => primaries.length === 2)
  t.deepEqual(
    primaries.map(({ instance, epoch }) => [instance, epoch]),
    [first, second].map(({ instance, epoch }) => [instance, epoch]),
  )
})

test('a failover can be forced, and one that does not answer is killed for it', async (t) => {
  const at = place(t)
  const bus = await at.bus()
  const group = groupOf(at, bus, 'member', { minUptime: 0, grace: 1500 })
  t.is(await codeOf(() => group.forceFailover()), 'ERR_RINGBELL_NOT_FOUND')
  await group.start()
  await until(() => onePrimary(group))
  const first = group.primary as GroupInstance
  const second = await group.forceFailover()
  t.not(second.pid, first.pid)
  t.true((second.epoch ?? 0) > (first.epoch ?? 0))
  t.is(group.aliveCount, 2, 'it stepped down, and lives')
  process.kill(second.pid as number, 'SIGSTOP')
  const third = await group.forceFailover()
  t.is(third.pid, first.pid)
  t.false(runs(second.pid as number))
})

test('a forced failover without a grace kills nobody that answers', async (t) => {
  const at = place(t)
  const bus = await at.bus()
  const group = groupOf(at, bus, 'member', { grace: 0 })
  await group.start()
  await until(() => onePrimary(group))
  const before = pidsOf(group)
  const { epoch = 0 } = group.primary as GroupInstance
  t.true(((await group.forceFailover()).epoch ?? 0) > epoch)
  t.deepEqual(pidsOf(group), before)
})

for (const mode of ['member', 'mute'] as const) {
  test(`a primary ${mode === 'mute' ? 'whose work does not beat' : 'that is stopped'} is found by the heartbeat`, async (t) => {
    const at = place(t)
    const bus = await at.bus()
    const heartbeat = { interval: 20, timeout: mode === 'mute' ? 1500 : 3000 }
    const group = groupOf(at, bus, mode, { minUptime: 0, heartbeat })
    const stalled: GroupInstance[] = []
    const codes: string[] = []
    group.on('stalled', (instance, { code }) => {
      stalled.push(instance)
      codes.push(code)
    })
    await group.start()
    await until(() => group.primary !== undefined)
    const { pid } = group.primary as GroupInstance
    if (mode === 'member') process.kill(pid as number, 'SIGSTOP')
    await until(() => stalled.some((one) => one.pid === pid))
    t.is(stalled[0]?.state, 'stalled')
    t.is(codes[0], 'ERR_RINGBELL_TIMEOUT')
    await until(() => !runs(pid as number))
    await until(() => group.primary !== undefined && group.primary.pid !== pid)
  })
}

test('an instance that fails its own check twice is killed', async (t) => {
  const at = place(t)
  const bus = await at.bus()
  let bad: number | undefined
  const checked = new Set<number | undefined>()
  const group = groupOf(at, bus, 'serve', {
    minUptime: 0,
    heartbeat: { interval: 20 },
    health: ({ pid }) => {
      checked.add(pid)
      return pid !== bad
    },
  })
  await group.start()
  await until(() => checked.size === 2)
  const pids = group.instances.map(({ pid }) => pid)
  bad = pids[1]
  await until(() => group.instances[1]?.state === 'ready' && group.instances[1].pid !== bad)
  t.is(group.instances[0]?.pid, pids[0])
})

test('a rolling restart keeps a primary, and moves it once', async (t) => {
  const at = place(t)
  const bus = await at.bus()
  const group = groupOf(at, bus, 'member', { replicas: 3 })
  const epochs: number[] = []
  await group.start()
  await until(() => onePrimary(group))
  const before = group.instances.map(({ pid }) => pid)
  group.on('primary', ({ epoch }) => epochs.push(epoch ?? 0))
  await group.restart()
  await until(() => onePrimary(group) && group.instances.length === 3)
  const after = group.instances
  t.true(after.every(({ pid, restarts }) => !before.includes(pid) && restarts === 1))
  t.is(epochs.length, 1)
})

test('two managers keep their own instances, and there is one primary', async (t) => {
  const at = place(t)
  const [one, other] = [await at.bus(), await at.bus()]
  const groups = [groupOf(at, one, 'member', { minUptime: 0 }), groupOf(at, other, 'member', { minUptime: 0 })] as const
  await Promise.all(groups.map((group) => group.start()))
  const [first, second] = groups
  await until(() => groups.every((group) => group.instances.length === 4 && onePrimary(group)))
  t.is(first.primary?.pid, second.primary?.pid)
  t.is(first.aliveCount, 2)
  const pid = first.primary?.pid as number
  process.kill(pid, 'SIGKILL')
  await until(() =>
    groups.every(({ primary, instances }) => primary !== undefined && primary.pid !== pid && instances.length === 4),
  )
  await until(() => groups.every(onePrimary))
  t.is(first.primary?.pid, second.primary?.pid)
  t.is((await instancesOn(one)).length, 4)
  await first.stop()
  await until(() => onePrimary(second) && second.instances.length === 2)
})

test('the members of a manager that was killed live on, and another manager takes them over', async (t) => {
  const at = place(t)
  const bus = await at.bus()
  const manager = new Child(
    process.execPath,
    [fileURLToPath(new URL('../../fixtures/supervise/keeper.mjs', import.meta.url)), String(process.pid)],
    {
      env: { IPC_BUS_DIR: at.path },
    },
  )
  at.onEnd(() => manager.ended())
  await manager.shows('started')
  const before = await until(async () => {
    const found = await instancesOn(bus)
    return found.length === 2 && found.some(({ role }) => role === 'primary') ? found : undefined
  })
  manager.kill('SIGKILL')
  await manager.end
  const group = groupOf(at, bus, 'member', { adopt: true, minUptime: 0 })
  await until(
    async () => (await instancesOn(bus)).every(({ restarts }) => restarts === 0) && runs(before[0]?.pid as number),
  )
  await group.start()
  t.deepEqual(
    group.instances.map(({ pid }) => pid),
    before.map(({ pid }) => pid),
    'no new ones were started, and each has its place',
  )
  t.is(group.aliveCount, 2)
  // A third manager does not take them from this one.
  const third = groupOf(at, await at.bus(), 'member', { adopt: true, replicas: 1 })
  await third.start()
  t.false(before.some(({ pid }) => pid === third.instances[0]?.pid))
  await third.stop()
  await until(() => onePrimary(group))
  const { pid } = group.primary as GroupInstance
  process.kill(pid as number, 'SIGKILL')
  await until(() => group.aliveCount === 2 && onePrimary(group) && group.primary?.pid !== pid)
  t.true(group.instances.some(({ restarts }) => restarts === 1))
})

test('two managers that adopt at the same time do not take the same instances', async (t) => {
  const at = place(t)
  const manager = new Child(
    process.execPath,
    [fileURLToPath(new URL('../../fixtures/supervise/keeper.mjs', import.meta.url)), String(process.pid)],
    { env: { IPC_BUS_DIR: at.path } },
  )
  at.onEnd(() => manager.ended())
  await manager.shows('started')
  await manager.ended()
  const groups = [
    groupOf(at, await at.bus(), 'member', { adopt: true, minUptime: 0 }),
    groupOf(at, await at.bus(), 'member', { adopt: true, minUptime: 0 }),
  ]
  await Promise.all(groups.map((group) => group.start()))
  const pids = groups.flatMap((group) =>
    group.instances.filter((one) => one.manager === group.id).map(({ pid }) => pid),
  )
  t.is(new Set(pids).size, 4)
})

test('20 kills of primaries leave no descriptors, zombies or records', async (t) => {
  const at = place(t)
  const bus = await at.bus()
  const group = groupOf(at, bus, 'member', { replicas: 2, minUptime: 0 })
  await group.start()
  await until(() => onePrimary(group))
  const { readdirSync } = await import('node:fs')
  const descriptors = (): number => readdirSync('/proc/self/fd').length
  let before = 0
  let epoch = 0
  for (let kills = 0; kills < 20; kills++) {
    if (kills === 5) before = descriptors()
    await until(() => onePrimary(group) && group.aliveCount === 2 && (group.primary?.epoch ?? 0) > epoch)
    const { pid, epoch: killed = 0 } = group.primary as GroupInstance
    epoch = killed
    process.kill(pid as number, 'SIGKILL')
  }
  await until(() => onePrimary(group) && group.aliveCount === 2 && (group.primary?.epoch ?? 0) > epoch)
  await until(() => descriptors() <= before + 2)
  await until(() => at.files().filter((name) => name.startsWith('price.member@')).length === 2)
  t.is(
    group.instances.reduce((sum, { restarts }) => sum + restarts, 0),
    20,
  )
})
