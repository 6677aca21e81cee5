/** The targets of the benchmarks: judged by what the scenarios give, and not measured where something is missing. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'

interface Run {
  scenario: string
  case: string
  entries: { name: string; kind: string; rounds: Record<string, number>[] }[]
}
interface Target {
  target: string
  status: string
  parts: { label: string; limit?: string; met?: boolean }[]
}
interface Entry {
  name: string
  kind: string
}
// Plain JavaScript: the benches have no types.
const load = async <T>(file: string): Promise<T> =>
  (await import(new URL(`../../benches/${file}`, import.meta.url).href)) as T
const { evaluate } = await load<{ evaluate: (runs: Run[]) => Target[] }>('harness/targets.mjs')

const EVERYTHING = { ringbell: true, ringbellRust: true, iceoryx2: true, lmdb: true, lockfile: true, redis: true }
const ours = ({ target }: Target) => /\b(state|lock)\b/.test(target)

/** What a scenario would measure with these things there, with the same figures for each of its entries. */
async function planned(t: ExecutionContext, scenario: string, has: object): Promise<Run[]> {
  const scratch = mkdtempSync(join(tmpdir(), 'ringbell-targets-'))
  t.teardown(() => rmSync(scratch, { recursive: true, force: true }))
  const { run } = await load<{ run: (context: object) => Promise<Run[]> }>(`scenarios/${scenario}.mjs`)
  const figures = (kind: string) => ({
    p50: 1,
    p99: 1,
    ns: 1,
    rate: 1,
    nsPerRead: kind === 'rival' ? 1000 : 1,
    perSecond: 1,
  })
  const meet = (entries: Entry[]) => entries.map(({ name, kind }) => ({ name, kind, rounds: [figures(kind)] }))
  return run({ has, scratch, programs: scratch, meet })
}

test('nothing is judged that was not measured', (t) => {
  t.deepEqual(
    evaluate([]).filter(({ status }) => status !== 'not measured'),
    [],
  )
})

test('every target of states and locks finds its figures in what their scenarios give', async (t) => {
  const runs = [...(await planned(t, 'state', EVERYTHING)), ...(await planned(t, 'locks', EVERYTHING))]
  const judged = evaluate(runs).filter(ours)
  t.is(judged.length, 8)
  for (const { target, parts } of judged)
    for (const { label, limit, met } of parts) if (limit !== undefined) t.not(met, undefined, `${target}: ${label}`)
  t.deepEqual(
    judged.filter(({ status }) => status === 'met').map(({ target }) => target),
    [
      'a state is read while it is updated',
      'a writer of a state with many readers',
      'a change of a state wakes its reader, two cores',
      'a change of a state wakes its reader, one core',
      'a lock without rivals',
      'the lock of a killed holder',
    ],
    'with equal rates nobody is 50 times as quick',
  )
})

test('a rival that is missing leaves its target not measured, and the others as they are', async (t) => {
  const runs = [
    ...(await planned(t, 'state', { ...EVERYTHING, redis: false, iceoryx2: false })),
    ...(await planned(t, 'locks', { ...EVERYTHING, lockfile: false })),
  ]
  const status = new Map(evaluate(runs).map((target) => [target.target, target.status]))
  t.is(status.get('a state is read while it is updated'), 'not measured')
  t.is(status.get('a lock that many want, from Node'), 'not measured')
  t.is(status.get('a lock without rivals'), 'met')
  t.deepEqual(
    runs.flatMap(({ entries }) => entries.map(({ name }) => name)).filter((name) => /Redis|iceoryx2|proper/.test(name)),
    [],
  )
})
