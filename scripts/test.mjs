// @ts-check
/**
 * npm test [-- --only STAGE,…] [--verbose]: runs every stage of stages.mjs, on a fresh clone, too. A failure does not stop
 * the other stages. A few tests that failed run once more, one at a time: a machine that was busy is told from code that is
 * wrong. What passes then counts as passed, and the last lines name it. Each step's output goes to a file in target/test-logs; that of a failed step is shown. The last lines
 * say how long each stage took, and the sum of all. The exit code is 1 if anything failed. `--verbose` shows all output as
 * it comes, so it runs one step at a time.
 */
import { createWriteStream, mkdirSync, readFileSync, rmSync } from 'node:fs'
import { finished } from 'node:stream/promises'
import { join } from 'node:path'
import { runInLanes } from './lanes.mjs'
import { checkOutcome } from './outcome.mjs'
import { run, script, secondsSince, SILENCE, TARGET } from './project.mjs'

const LOGS = join(TARGET, 'test-logs')
const SHOWN = 60_000
/** A step with more failures is not tried again. */
const MOST_AGAIN = 3

/** @param {string} line */
const say = (line) => void process.stdout.write(`${line}\n`)

/** @param {import('./stages.mjs').Step} step @param {string} path of its log @param {boolean} verbose */
async function runStep(step, path, verbose) {
  const log = createWriteStream(path)
  /** @param {string} chunk */
  const output = (chunk) => {
    log.write(chunk)
    if (verbose) process.stdout.write(chunk)
  }
  let code = 0
  if (step.command !== undefined) {
    const watchdog = step.hangs === true ? { silence: SILENCE } : {}
    code = await run(step.command, { output, env: step.env ?? {}, ...watchdog })
  } else {
    try {
      await step.action?.(output)
    } catch (error) {
      output(`${error instanceof Error ? error.message : String(error)}\n`)
      code = 1
    }
  }
  log.end()
  await finished(log)
  return (step.read ?? checkOutcome)(readFileSync(path, 'utf8'), code)
}

await script(async () => {
  const { STAGES } = await import('./stages.mjs')
  const words = process.argv
    .slice(2)
    .filter((word, at, all) => word !== '--verbose' && word !== '--only' && all[at - 1] !== '--only')
  if (words.length > 0)
    throw new Error(
      `not ${words.join(' ')}: npm test [-- --only ${STAGES.map(({ name }) => name).join(',')}] [--verbose]`,
    )
  const verbose = process.argv.includes('--verbose')
  const at = process.argv.indexOf('--only')
  const only = at < 0 ? STAGES.map(({ name }) => name) : (process.argv[at + 1] ?? '').split(',')
  const unknown = only.filter((name) => !STAGES.some((stage) => stage.name === name))
  if (unknown.length > 0)
    throw new Error(`no stage ${unknown.join(', ')}; there are ${STAGES.map(({ name }) => name).join(', ')}`)
  rmSync(LOGS, { recursive: true, force: true })
  mkdirSync(LOGS, { recursive: true })

  const start = performance.now()
  const total = { passed: 0, failed: 0 }
  const broken = /** @type {string[]} */ ([])
  const shaky = /** @type {string[]} */ ([])
  const times = []
  for (const stage of STAGES) {
    // All stages need the build, and it costs nothing if nothing has changed.
    if (stage.name !== 'build' && !only.includes(stage.name)) continue
    const begun = performance.now()
    say(`\n${stage.name}`)
    const steps = stage.steps()
    /** @param {import('./stages.mjs').Step} step @param {boolean} alone */
    const runOne = async (step, alone) => {
      const from = performance.now()
      const path = join(LOGS, `${stage.name}-${steps.indexOf(step)}.log`)
      process.stdout.write(alone ? `  ${step.name} … ` : `  ${step.name} begins\n`)
      let outcome = await runStep(step, path, verbose)
      const command =
        outcome.failed > 0 && outcome.failed <= MOST_AGAIN ? step.again?.(readFileSync(path, 'utf8')) : undefined
      if (command !== undefined) {
        if (!verbose) say(readFileSync(path, 'utf8').slice(-SHOWN))
        say(`  ${step.name}: ${outcome.failed} failed, again one at a time: ${command.join(' ')}`)
        const second = await runStep({ ...step, command }, path.replace(/log$/, 'again.log'), verbose)
        if (second.failed === 0) {
          shaky.push(`${stage.name}: ${step.name}: ${outcome.failed}; the first try is in ${path}`)
          outcome = { ...outcome, passed: outcome.passed + outcome.failed, failed: 0 }
        }
      }
      const counts =
        outcome.passed + outcome.failed > 1 || outcome.skipped > 0
          ? `, ${outcome.passed} of ${outcome.passed + outcome.failed}`
          : ''
      const skipped = outcome.skipped > 0 ? ` (${outcome.skipped} skipped)` : ''
      const name = alone ? '' : `  ${step.name} … `
      say(`${name}${outcome.failed === 0 ? 'ok' : 'FAIL'}${counts}${skipped}, ${secondsSince(from)}`)
      if (outcome.failed > 0) {
        broken.push(`${stage.name}: ${step.name}`)
        if (!verbose) say(readFileSync(path, 'utf8').slice(-SHOWN))
      }
      total.passed += outcome.passed
      total.failed += outcome.failed
    }
    if (verbose) for (const step of steps) await runOne(step, true)
    else await runInLanes(steps, runOne)
    times.push(`${stage.name} ${secondsSince(begun)}`)
  }
  say(`\n${[...times, `all ${secondsSince(start)}`].join(', ')}; logs in ${LOGS}`)
  for (const name of shaky) say(`passed only at the second try, one at a time: ${name}`)
  for (const name of broken) say(`failed: ${name}`)
  say(`${total.passed} passed, ${total.failed} failed`)
  return total.failed === 0 ? 0 : 1
})
