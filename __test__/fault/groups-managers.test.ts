/**
 * A group with two managers, whose primaries are stopped, continued and killed, and one of whose managers is killed, while clients call
 * all the time: one process at a time is primary, and each call ends. `RINGBELL_TEST_FAILOVERS` makes a hunt of it.
 */
import { fileURLToPath } from 'node:url'
import test from 'ava'
import { instancesOn, type ServiceGroup } from 'ringbell/supervise'
import { answerers, Caller, primaries } from '../helpers/callers.js'
import { Child } from '../helpers/child.js'
import { groupOf } from '../helpers/groups.js'
import { PATIENCE_MS } from '../helpers/patience.js'
import { codeOf, type Place, place, until } from '../helpers/place.js'
import { runs } from '../helpers/scratch.js'

const ROUNDS = Number(process.env['RINGBELL_TEST_FAILOVERS'] ?? 6)
const KEEPER = fileURLToPath(new URL('../fixtures/supervise/keeper.mjs', import.meta.url))

/** A manager in a process of its own, of two members that outlive it. */
async function keeper(at: Place): Promise<Child> {
  const child = new Child(process.execPath, [KEEPER, String(process.pid)], { env: { IPC_BUS_DIR: at.path } })
  at.onEnd(() => child.ended())
  await child.shows('started')
  return child
}

/** The record of one that was just killed may still be there. */
const whole = (group: ServiceGroup): boolean =>
  group.instances.length === 4 &&
  group.instances.every(({ role, pid = 0 }) => role !== undefined && runs(pid)) &&
  group.primary !== undefined

test.serial('with two managers no epoch has two primaries, whatever happens to them', async (t) => {
  const at = place(t)
  t.timeout(PATIENCE_MS + ROUNDS * 5000)
  const bus = await at.bus()
  const manager = await keeper(at)
  const own = groupOf(at, await at.bus(), 'member', { minUptime: 0, grace: 10_000 })
  await own.start()
  const observer = primaries(bus)
  const callers = Array.from({ length: 3 }, () => new Caller())
  const broken = Promise.all(callers.map((caller, index) => caller.run(bus, index % 2 === 0)))
  const probe = await bus.connect('price', { codec: 'json', route: 'primary' })
  const answered = (epoch: number): Promise<unknown> =>
    Promise.race([until(() => callers.every((caller) => caller.epoch >= epoch)), broken])
  let kills = 0
  for (let round = 0; round < ROUNDS; round++) {
    await until(() => whole(own))
    const { holder, epoch } = await until(() => {
      const state = bus.claims.query('price')
      return state.holder !== undefined && state
    })
    await answered(epoch)
    const pid = holder?.pid as number
    if (round % 3 === 0) {
      // Nobody passes a stopped primary by. When it goes on, it still is the one.
      process.kill(pid, 'SIGSTOP')
      t.is(await codeOf(() => probe.call({ number: 0 }, { timeout: 50 })), 'ERR_RINGBELL_TIMEOUT')
      t.like(bus.claims.query('price'), { epoch, holder: { pid } })
      process.kill(pid, 'SIGCONT')
      t.like(await probe.call({ number: 1 }), { number: 1, pid, epoch })
    } else if (round % 3 === 1) await own.forceFailover()
    else {
      kills++
      process.kill(pid, 'SIGKILL')
    }
    if (round % 3 > 0) await until(() => bus.claims.query('price').epoch > epoch)
  }
  // The other manager is killed, and its members go on. A third one takes them over.
  await until(() => whole(own))
  const theirs = new Set(own.instances.filter(({ manager: id }) => id !== own.id).map(({ pid }) => pid))
  t.is(theirs.size, 2)
  await manager.ended()
  const third = groupOf(at, await at.bus(), 'member', { adopt: true, minUptime: 0 })
  await until(async () => {
    // Until its record has gone, it counts as alive.
    await bus.gc()
    return bus.services.findAll('price').filter(({ name }) => name === 'price.manager').length === 1
  })
  await third.start()
  const taken = (await instancesOn(bus)).filter((one) => one.manager === third.id).map(({ pid }) => pid)
  t.is(taken.length, 2)
  t.true(taken.every((pid) => theirs.has(pid)))
  const { epoch } = bus.claims.query('price')
  for (const pid of theirs) process.kill(pid as number, 'SIGKILL')
  kills++
  await until(() => whole(own) && whole(third) && own.instances.every(({ pid }) => !theirs.has(pid)))
  await answered(epoch)
  for (const caller of callers) caller.going = false
  await broken
  await probe.close()
  const holders = await observer.end()
  // Idempotent calls are never lost. The others end as unknown, if they were with a primary that was killed.
  for (const [index, { failures }] of callers.entries()) {
    t.deepEqual(index % 2 === 0 ? failures : failures.filter((code) => code !== 'ERR_RINGBELL_OUTCOME_UNKNOWN'), [])
    t.true(failures.length <= kills)
  }
  for (const [one, pids] of answerers(callers)) t.is(pids.size, 1, `epoch ${one} was answered by ${[...pids]}`)
  const epochs = new Set(holders.map((one) => one.epoch))
  t.is(epochs.size, new Set(holders.map((one) => `${one.epoch} ${one.pid}`)).size)
  t.true(epochs.size > ROUNDS / 3)
})
