// @ts-check
/**
 * npm run reach [-- --only NAME,…] [--strict] [--verbose] [--list]: runs the packed package where users run it. Each row of
 * rows.mjs is one platform, installer or tool. What this machine cannot have is fetched into target/reach; where that is
 * impossible the row is skipped, with the reason. --strict counts a skipped row as failed. NAME is a row or a group. It
 * prints a table, writes a log for each row to target/reach/logs, and exits with 1 if a row failed or none passed.
 */
import { createWriteStream, mkdirSync } from 'node:fs'
import { finished } from 'node:stream/promises'
import { join } from 'node:path'
import { script, secondsSince } from '../project.mjs'
import { Missing, REACH } from './place.mjs'
import { closeRows, ROWS } from './rows.mjs'

const LOGS = join(REACH, 'logs')
/** @param {string} line */
const say = (line) => void process.stdout.write(`${line}\n`)

/** @param {string[]} args */
function chosen(args) {
  const at = args.indexOf('--only')
  if (at < 0) return ROWS
  const names = (args[at + 1] ?? '').split(',')
  const known = new Set(ROWS.flatMap(({ group, name }) => [group, name]))
  const unknown = names.filter((name) => !known.has(name))
  if (unknown.length > 0) throw new Error(`no row ${unknown.join(', ')}; --list shows the rows`)
  return ROWS.filter(({ group, name }) => names.includes(group) || names.includes(name))
}

/** @param {import('./rows.mjs').Row} row @param {boolean} verbose */
async function runRow(row, verbose) {
  const log = createWriteStream(join(LOGS, `${row.name}.log`))
  let tail = ''
  /** @param {string} chunk */
  const output = (chunk) => {
    log.write(chunk)
    tail = (tail + chunk).slice(-3000)
    if (verbose) process.stdout.write(chunk)
  }
  try {
    return { result: 'passed', detail: await row.run({ output }) }
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    if (error instanceof Missing) return { result: 'skipped', detail: reason.split('\n')[0] ?? '' }
    if (!verbose) say(tail)
    return { result: 'failed', detail: reason }
  } finally {
    log.end()
    await finished(log)
  }
}

await script(async () => {
  const args = process.argv.slice(2)
  const rows = chosen(args)
  if (args.includes('--list')) {
    for (const { group, name, what } of rows) say(`${group.padEnd(11)} ${name.padEnd(20)} ${what}`)
    return 0
  }
  mkdirSync(LOGS, { recursive: true })
  /** @type {(import('./rows.mjs').Row & { result: string, detail: string, time: string })[]} */
  const table = []
  try {
    for (const row of rows) {
      const from = performance.now()
      say(`${row.name}: ${row.what} …`)
      const { result, detail } = await runRow(row, args.includes('--verbose'))
      table.push({ ...row, result, detail, time: secondsSince(from) })
    }
  } finally {
    closeRows()
  }
  say('')
  for (const { name, what, result, detail, time } of table)
    say(`${result.padEnd(8)}${name.padEnd(20)}${what}: ${detail} (${time})`)
  const count = (/** @type {string} */ result) => table.filter((row) => row.result === result).length
  const failed = count('failed') + (args.includes('--strict') ? count('skipped') : 0)
  say(`${count('passed')} passed, ${failed} failed, ${count('skipped')} skipped`)
  return failed === 0 && count('passed') > 0 ? 0 : 1
})
