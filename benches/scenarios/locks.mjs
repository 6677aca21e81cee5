// Locks between processes, from Node: what taking and giving back costs without rivals, and how often it is done in all
// processes that want the same lock.

import { cast } from '../harness/cast.mjs'
import { alternate } from '../harness/rounds.mjs'

const MODULE = './ringbell-locks.mjs'
const WAYS = [
  ['tryAcquire', 'ringbell', 10_000],
  ['acquire', 'ringbell', 1000],
  ['proper-lockfile', 'rival', 1],
]
const PROCESSES = [2, 8, 32]

function window(context, way, count, step, { ms }) {
  return cast(context, MODULE, async (start) => {
    const lockers = []
    for (let n = 0; n < count; n++) lockers.push(await start('locker', n % 2, { way }))
    // The first window also has to wait for the compiler.
    for (const locker of lockers) await locker.ask({ type: 'take', ms: ms / 10, step }, 'taken', 60_000)
    const all = await Promise.all(lockers.map((one) => one.ask({ type: 'take', ms, step }, 'taken', 60_000)))
    return { ns: all[0].ns, rate: all.reduce((sum, one) => sum + one.count / ms, 0) * 1000 }
  })
}

export async function run(context) {
  const entries = (count, ways) =>
    ways.map(([way, kind, step]) => ({
      name: kind === 'ringbell' ? `ringbell ${way}` : way,
      kind,
      window: (times) => window(context, way, count, count > 1 ? 1 : step, times),
    }))
  const alone = await alternate(entries(1, WAYS), { ...context, title: 'locks, no rival' })
  const cases = [{ scenario: 'locks', case: 'no rival', metric: 'ns', unit: 'ns', entries: alone }]
  for (const count of context.quick ? PROCESSES.slice(0, 1) : PROCESSES) {
    const title = `locks, ${count} processes`
    const data = await alternate(entries(count, WAYS.slice(1)), { ...context, title })
    cases.push({ scenario: 'locks', case: `${count} processes`, metric: 'rate', unit: '/s', entries: data })
  }
  return cases
}
