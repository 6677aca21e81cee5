// Locks between processes: what taking and giving back costs without rivals, how often it is done in all processes that want the
// same lock, and how long it takes until the next one has the lock of a killed holder. From Rust beside a robust pthread mutex in
// shared memory and flock(2), from Node beside proper-lockfile.

import { cast } from '../harness/cast.mjs'
import { alternate } from '../harness/rounds.mjs'
import { entry, program } from '../harness/rust.mjs'

const MODULE = './ringbell-locks.mjs'
/** In Node: the name of a way, whose it is, and how often it is done between two looks at the clock. */
const WAYS = [
  ['tryAcquire', 'ringbell', 10_000],
  ['acquire', 'ringbell', 1000],
  ['locks.acquire', 'ringbell', 1000],
  ['locks.request', 'ringbell', 1000],
  ['withKey', 'ringbell', 1000],
  ['proper-lockfile', 'rival', 1],
]
/** In Rust: `--mode`, and its name here. */
const MODES = [
  ['ringbell', 'ringbell lock', 'ringbell'],
  ['mutex', 'robust pthread mutex', 'rival'],
  ['flock', 'flock', 'rival'],
]
const PROCESSES = [2, 8, 32]
const PATIENCE = 60_000

export async function run(context) {
  const cases = []
  const measure = async (title, metric, unit, entries) => {
    if (entries.length === 0) return
    const data = await alternate(entries, { ...context, title: `locks, ${title}` })
    cases.push({ scenario: 'locks', case: title, metric, unit, entries: data })
  }
  const inRust = (scenario, options) =>
    context.has.ringbellRust
      ? MODES.map(([mode, name, kind]) => entry(context, name, kind, 'ringbell-sync', scenario, { mode, ...options }))
      : []
  const counts = context.quick ? PROCESSES.slice(0, 1) : PROCESSES

  await measure('no rival, Rust', 'ns', 'ns', inRust('alone', {}))
  for (const count of counts)
    await measure(`${count} processes, Rust`, 'rate', '/s', inRust('contended', { processes: count }))
  if (context.has.ringbellRust) await measure('holder killed', 'p99', 'ns', handovers(context))
  if (!context.has.ringbell) return cases
  const ways = WAYS.filter(([, kind]) => kind === 'ringbell' || context.has.lockfile)
  await lockers(context, 1, (window) => measure('no rival', 'ns', 'ns', inNode(ways, window)))
  // Without waiting the quicker process takes a lock; that is no way to share it.
  const waiting = ways.filter(([name]) => name !== 'tryAcquire').map(([name, kind]) => [name, kind, 1])
  for (const count of counts)
    await lockers(context, count, (window) => measure(`${count} processes`, 'rate', '/s', inNode(waiting, window)))
  return cases
}

/** From SIGKILL; what it is from the moment at which the holder's pidfd has fired stands beside it in the raw data. */
function handovers(context) {
  const count = context.quick ? 30 : 100
  return MODES.map(([mode, name, kind]) => ({
    name,
    kind,
    window: async () => {
      const { sinceKill, ...sincePidfd } = await program(context, 'ringbell-sync', 'handover', { mode, count })
      return { ...sinceKill, sincePidfd }
    },
  }))
}

const inNode = (ways, window) =>
  ways.map(([way, kind, step]) => ({
    name: kind === 'ringbell' ? `ringbell ${way}` : way,
    kind,
    window: (times) => window(way, step, times),
  }))

/** Gives `use` a function that lets so many processes take the lock. They start with its first call, and stay for all windows. */
function lockers(context, count, use) {
  return cast(context, MODULE, async (start) => {
    const all = []
    await use(async (way, step, { warm, ms }) => {
      for (let n = all.length; n < count; n++) all.push(await start('locker', n % 2, { rival: context.has.lockfile }))
      const take = (time) =>
        Promise.all(all.map((one) => one.ask({ type: 'take', way, step, ms: time }, 'taken', PATIENCE)))
      await take(warm)
      const taken = await take(ms)
      return { ns: taken[0].ns, rate: taken.reduce((sum, one) => sum + one.rate, 0) }
    })
  })
}
