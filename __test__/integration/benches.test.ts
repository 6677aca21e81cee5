/** The scenarios of the benchmarks that need nothing but the package run through, and none of their entries fails. */
import { mkdtempSync, rmSync } from 'node:fs'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import test from 'ava'
import { PATIENCE_MS } from '../helpers/patience.js'

interface Run {
  case: string
  entries: { name: string; rounds: Record<string, number>[]; error?: string }[]
}

const BENCHES = new URL('../../benches/', import.meta.url)
/** Everything is pinned to two cores. */
const pinned = availableParallelism() > 1 ? test.serial : test.serial.skip

for (const [scenario, metric, expected] of [
  ['locks', /^(ns|rate)$/, { 'no rival': 5, '2 processes': 4 }],
  ['state', /^p50$/, { 'a change, Node, two cores': 2, 'a change, Node, one core': 2 }],
] as const)
  pinned(`the scenario ${scenario} in Node`, async (t) => {
    t.timeout(PATIENCE_MS)
    const scratch = mkdtempSync(join(tmpdir(), 'ringbell-benches-'))
    t.teardown(() => rmSync(scratch, { recursive: true, force: true }))
    // Plain JavaScript: the benches have no types.
    const { run } = (await import(new URL(`scenarios/${scenario}.mjs`, BENCHES).href)) as {
      run: (context: object) => Promise<Run[]>
    }
    const said: string[] = []
    const say = (text: string, passing = false) => void (passing || said.push(text))
    const has = { ringbell: true }
    const benches = fileURLToPath(BENCHES)
    const runs = await run({ has, benches, scratch, say, quick: true, rounds: 1, warm: 5, ms: 20 })
    t.deepEqual(said, [], 'what failed is said')
    t.deepEqual(Object.fromEntries(runs.map((one) => [one.case, one.entries.length])), expected)
    for (const { entries } of runs)
      for (const { name, rounds } of entries)
        for (const [figure, value] of Object.entries(rounds[0] ?? {}))
          if (metric.test(figure)) t.true(Number.isFinite(value) && value > 0, `${name}: ${figure} is ${value}`)
  })
