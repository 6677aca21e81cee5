// npm run bench -- [scenario …] [--quick] [--rivals-only] [--sizes "256 B,4 KiB"] [--rounds n] [--ms n] [--name x]
// Runs the scenarios, prints tables and targets, writes raw data and charts to benches/results/.
// `--against COMMIT` measures this tree beside that of another commit, without rivals, and gives ratios.
// `--draw file.json` only draws the charts of a result that is there, `--targets file.json` only judges it, `--distances file.json`
// only tells its windows with the cores near each other from those far apart.

import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { checkOut, prepareOther, printRatios, runAgainst, tellRatiosApart } from './harness/against.mjs'
import { charts } from './harness/chart.mjs'
import { Lines, sortByDistance } from './harness/distance.mjs'
import { commit, machine, versions } from './harness/machine.mjs'
import { prepare } from './harness/prepare.mjs'
import { printDistances, printRun, printTargets } from './harness/table.mjs'
import { evaluate } from './harness/targets.mjs'

const scenarios = [
  'throughput',
  'acks',
  'round-trip',
  'idle',
  'fan-out',
  'attach',
  'registry',
  'export',
  'claims',
  'failover',
  'state',
  'locks',
  'memory',
  'rust',
  'calls',
  'clients',
  'large-reply',
]
const results = path.join(import.meta.dirname, 'results')

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    quick: { type: 'boolean', default: false },
    'rivals-only': { type: 'boolean', default: false },
    against: { type: 'string' },
    sizes: { type: 'string' },
    rounds: { type: 'string' },
    ms: { type: 'string' },
    name: { type: 'string' },
    draw: { type: 'string' },
    targets: { type: 'string' },
    distances: { type: 'string' },
    help: { type: 'boolean', short: 'h', default: false },
  },
})

const unknown = positionals.filter((name) => !scenarios.includes(name))
if (options.help || unknown.length) {
  if (unknown.length) console.error(`no scenario ${unknown.join(', ')}`)
  console.log(
    `scenarios: ${scenarios.join(', ')}\noptions: --quick --rivals-only --against commit --sizes "256 B,4 KiB" --rounds n --ms n --name x --draw file --targets file --distances file`,
  )
  process.exit(unknown.length ? 2 : 0)
}

function draw(result) {
  for (const [file, svg] of Object.entries(charts(result))) writeFileSync(path.join(results, file), svg)
}

const load = (file) => JSON.parse(readFileSync(file, 'utf8'))
if (options.draw) draw(load(options.draw))
else if (options.targets) printTargets(evaluate(load(options.targets).runs))
else if (options.distances) printDistances(load(options.distances))
else await measure()

async function measure() {
  if (os.availableParallelism() < 2) console.error('fewer than two cores: every figure below is one of a single core')
  const say = (text, passing = false) => {
    if (!passing) console.error(`${process.stderr.isTTY ? '\r\x1b[K' : ''}${text}`)
    else if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${text.slice(0, 100)}`)
  }
  const other = options.against && checkOut(options.against, say)
  const only = other ? 'ringbell' : options['rivals-only'] ? 'rivals' : undefined
  const prepared = await prepare({ say, only })
  const others = other && (await prepareOther(other.folder, say))
  const lines = prepared.has.floors ? new Lines(prepared.programs) : undefined
  const context = {
    ...prepared,
    lines,
    say,
    quick: options.quick,
    rounds: Number(options.rounds ?? (options.quick ? 2 : 5)),
    ms: Number(options.ms ?? (options.quick ? 300 : 1000)),
    warm: options.quick ? 100 : 250,
    sizes: options.sizes?.split(',').map((size) => size.trim()),
  }
  const before = machine()
  const runs = []
  try {
    for (const name of positionals.length ? positionals : scenarios) {
      const { run } = await import(`./scenarios/${name}.mjs`)
      for (const result of other ? await runAgainst(run, context, others, other.commit) : await run(context)) {
        say('', true)
        printRun(result)
        if (other) printRatios(result, other.commit)
        runs.push(result)
      }
    }
  } finally {
    await lines?.close()
    for (const { scratch } of [prepared, others].filter(Boolean)) rmSync(scratch, { recursive: true, force: true })
  }
  const distances = sortByDistance(runs)
  if (other) tellRatiosApart(runs)
  const targets = evaluate(runs).filter(({ parts }) => !other || parts.some(({ met }) => met !== undefined))
  const now = new Date()
  const result = {
    date: now.toISOString().slice(0, 10),
    finished: now.toISOString(),
    commit: commit(),
    ...(other && { against: other.commit }),
    machine: before,
    loadAverageAfter: machine().loadAverage,
    versions: versions(),
    rounds: context.rounds,
    windowMs: context.ms,
    quick: context.quick,
    missing: prepared.missing,
    distances,
    targets,
    runs,
  }
  printDistances(result)
  for (const run of other ? runs : []) printRatios(run, other.commit)
  printTargets(targets)
  mkdirSync(results, { recursive: true })
  const name =
    options.name ??
    `${positionals.join('-') || 'all'}${other ? `-against-${other.commit}` : ''}${options.quick ? '-quick' : ''}`
  const file = path.join(results, `${result.date}-${name}.json`)
  writeFileSync(file, `${JSON.stringify(result, undefined, 1)}\n`)
  // A quick run, or one without rivals, never replaces the charts that readers see.
  if (!options.quick && !other) draw(result)
  console.log(`\nraw data: ${path.relative(process.cwd(), file)}`)
}
