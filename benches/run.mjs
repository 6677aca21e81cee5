// npm run bench -- [scenario …] [--quick] [--rivals-only] [--sizes "256 B,4 KiB"] [--rounds n] [--ms n] [--name x]
// Runs the scenarios, prints tables and targets, writes raw data and charts to benches/results/.
// `--draw file.json` only draws the charts of a result that is there, `--targets file.json` only judges it.

import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { charts } from './harness/chart.mjs'
import { commit, machine, versions } from './harness/machine.mjs'
import { prepare } from './harness/prepare.mjs'
import { printRun, printTargets } from './harness/table.mjs'
import { evaluate } from './harness/targets.mjs'

const scenarios = [
  'throughput',
  'acks',
  'round-trip',
  'idle',
  'fan-out',
  'attach',
  'registry',
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
    sizes: { type: 'string' },
    rounds: { type: 'string' },
    ms: { type: 'string' },
    name: { type: 'string' },
    draw: { type: 'string' },
    targets: { type: 'string' },
    help: { type: 'boolean', short: 'h', default: false },
  },
})

const unknown = positionals.filter((name) => !scenarios.includes(name))
if (options.help || unknown.length) {
  if (unknown.length) console.error(`no scenario ${unknown.join(', ')}`)
  console.log(
    `scenarios: ${scenarios.join(', ')}\noptions: --quick --rivals-only --sizes "256 B,4 KiB" --rounds n --ms n --name x --draw file --targets file`,
  )
  process.exit(unknown.length ? 2 : 0)
}

function draw(result) {
  for (const [file, svg] of Object.entries(charts(result))) writeFileSync(path.join(results, file), svg)
}

const load = (file) => JSON.parse(readFileSync(file, 'utf8'))
if (options.draw) draw(load(options.draw))
else if (options.targets) printTargets(evaluate(load(options.targets).runs))
else await measure()

async function measure() {
  if (os.availableParallelism() < 2) console.error('fewer than two cores: every figure below is one of a single core')
  const say = (text, passing = false) => {
    if (!passing) console.error(`${process.stderr.isTTY ? '\r\x1b[K' : ''}${text}`)
    else if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${text.slice(0, 100)}`)
  }
  const prepared = await prepare({ say, rivalsOnly: options['rivals-only'] })
  const context = {
    ...prepared,
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
      for (const result of await run(context)) {
        say('', true)
        printRun(result)
        runs.push(result)
      }
    }
  } finally {
    rmSync(prepared.scratch, { recursive: true, force: true })
  }
  const targets = evaluate(runs)
  const now = new Date()
  const result = {
    date: now.toISOString().slice(0, 10),
    finished: now.toISOString(),
    commit: commit(),
    machine: before,
    loadAverageAfter: machine().loadAverage,
    versions: versions(),
    rounds: context.rounds,
    windowMs: context.ms,
    quick: context.quick,
    missing: prepared.missing,
    targets,
    runs,
  }
  printTargets(targets)
  mkdirSync(results, { recursive: true })
  const name = options.name ?? `${positionals.join('-') || 'all'}${options.quick ? '-quick' : ''}`
  const file = path.join(results, `${result.date}-${name}.json`)
  writeFileSync(file, `${JSON.stringify(result, undefined, 1)}\n`)
  // A quick run never replaces the charts that readers see.
  if (!options.quick) draw(result)
  console.log(`\nraw data: ${path.relative(process.cwd(), file)}`)
}
