// Two trees, one run: this one and that of another commit, through the same scenarios. Their windows alternate, so that a machine
// that slows down slows both, and each round gives a ratio of its own.

import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, renameSync, rmSync } from 'node:fs'
import path from 'node:path'
import { DISTANCES, only } from './distance.mjs'
import { MORE, number } from './table.mjs'
import { prepare } from './prepare.mjs'
import { takeTurns } from './rounds.mjs'
import { ratio } from './statistics.mjs'

const ROOT = path.resolve(import.meta.dirname, '../..')

/** Checks the commit out below target/, once, and builds it there. Gives its folder and its short name. */
export function checkOut(revision, say) {
  const git = (...words) => execFileSync('git', words, { cwd: ROOT, encoding: 'utf8' }).trim()
  const commit = git('rev-parse', '--short', `${revision}^{commit}`)
  const folder = path.join(ROOT, 'target', 'against', commit)
  if (!existsSync(folder)) {
    say(`building ${commit} …`)
    const unfinished = `${folder}.unfinished`
    rmSync(unfinished, { recursive: true, force: true })
    mkdirSync(unfinished, { recursive: true })
    const archive = execFileSync('git', ['archive', commit], { cwd: ROOT, maxBuffer: 1 << 30 })
    execFileSync('tar', ['-x', '-C', unfinished], { input: archive })
    execFileSync(process.execPath, ['scripts/build.mjs'], { cwd: unfinished, stdio: ['ignore', 'ignore', 'inherit'] })
    renameSync(unfinished, folder)
  }
  return { folder, commit }
}

/** What `alternate` asks for: the two callers of each case meet here, and their entries are measured in turn. */
function meeting() {
  let first
  return (entries, context) => {
    const mine = entries.filter(({ kind }) => kind === 'ringbell')
    if (first === undefined)
      return new Promise((resolve, reject) => {
        first = { entries: mine, resolve, reject }
      })
    const [other] = [first, (first = undefined)]
    return measured(other, mine, context)
  }
}

/** Measures both, gives the second caller its data, and the one who waits for it its own. */
async function measured(other, mine, context) {
  // Twins are measured next to each other, and each of them first in every second case.
  const twins = mine.flatMap((entry, index) => [other.entries[index], entry].filter(Boolean))
  try {
    const data = await takeTurns(twins, context)
    const of = (entries) => entries.map((entry) => data[twins.indexOf(entry)])
    other.resolve(of(other.entries))
    return of(mine)
  } catch (error) {
    other.reject(error)
    throw error
  }
}

/** Runs one scenario in both trees at once. Gives its cases, each with the entries of both, and the ratios this ÷ other. */
export async function runAgainst(run, context, other, commit) {
  const meet = meeting()
  const [mine, theirs] = await Promise.all([run({ ...context, meet }), run({ ...context, ...other, meet })])
  return mine.map((result, index) => {
    const before = theirs[index].entries
    return {
      ...result,
      entries: result.entries.flatMap((entry, at) => [entry, { ...before[at], name: `${entry.name}, ${commit}` }]),
      ratios: result.entries.map((entry, at) => ({
        name: entry.name,
        ratio: ratio(entry, before[at], result.metric),
      })),
    }
  })
}

/** The other tree's share of a run's context. */
export async function prepareOther(folder, say) {
  const { has, benches, programs, scratch, missing } = await prepare({ say, only: 'ringbell', root: folder })
  return { has, benches, programs, scratch, missing }
}

/** Adds to each ratio what it is with the cores near each other, and far apart. Windows must be sorted by distance before. */
export function tellRatiosApart(runs) {
  for (const distance of DISTANCES) {
    for (const [index, { entries, metric }] of only(runs, distance).entries()) {
      for (const [at, mine] of runs[index].ratios.entries())
        mine[distance] = ratio(entries[2 * at], entries[2 * at + 1], metric)
    }
  }
}

export function printRatios(run, commit) {
  const said = (value) => `${number(value.median)} (${number(value.low)} … ${number(value.high)})`
  console.log(`${run.case}: this tree ÷ ${commit}, ${run.metric}, ${MORE.has(run.metric) ? 'more' : 'less'} is better`)
  for (const { name, ratio: value, ...apart } of run.ratios) {
    const parts = DISTANCES.filter((distance) => apart[distance]).map(
      (distance) => ` · ${distance} ${said(apart[distance])}`,
    )
    console.log(`  ${name}: ${value ? said(value) : 'not measured'}${parts.join('')}`)
  }
}
