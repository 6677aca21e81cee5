/**
 * Runs the cases of a program of __test__/fixtures/boundary in child processes. A case that ends its process, or in which
 * nothing happens for too long, fails by its name, and another process goes on with the case after it.
 */
import { fileURLToPath } from 'node:url'
import { Child } from './child.js'
import { PATIENCE_MS } from './patience.js'
import type { Told } from '../fixtures/boundary/report.js'

const TYPESCRIPT = new URL('./typescript.mjs', import.meta.url).href

/** A child that tells nothing for so long hangs. A case takes milliseconds. */
const SILENCE_MS = 60_000

const USUAL_SHARE = 8

/** `npm test` runs one case of so many. `npm run soak` runs all. */
export const SHARE = Number(process.env['RINGBELL_BOUNDARY_SHARE'] ?? USUAL_SHARE)

/** How long a test waits for all its cases: the more it runs, the longer. */
export const CASES_PATIENCE_MS = PATIENCE_MS * Math.max(1, USUAL_SHARE / SHARE)

/** `weight`: so many times the share. */
export function shareOf<C>(cases: readonly C[], weight = 1): C[] {
  const step = Math.max(1, Math.floor(SHARE / weight))
  return cases.filter((_, index) => index % step === 0)
}

/** The problems of all cases, each with the name of its case. */
export async function problemsOf(
  program: string,
  names: readonly string[],
  env: NodeJS.ProcessEnv = {},
): Promise<string[]> {
  const problems: string[] = []
  let left = names
  while (left.length > 0) {
    const { done, running, why } = await runSome(program, left, env, problems)
    left = left.slice(done)
    if (running === undefined && left.length > 0) throw new Error(`${program} ran no case: ${why}`)
    if (running === undefined) break
    problems.push(`${running}: ${why}`)
    left = left.slice(1)
  }
  return problems
}

/** How many cases it finished, and the one during which it ended, if it did not finish all. */
async function runSome(
  program: string,
  names: readonly string[],
  env: NodeJS.ProcessEnv,
  problems: string[],
): Promise<{ done: number; running: string | undefined; why: string }> {
  const path = fileURLToPath(new URL(`../fixtures/boundary/${program}`, import.meta.url))
  const child = new Child(process.execPath, ['--enable-source-maps', `--import=${TYPESCRIPT}`, path], { env })
  let done = 0
  let running: string | undefined
  let text = ''
  let hung = false
  const bark = (): void => {
    hung = true
    child.kill()
  }
  let watchdog = setTimeout(bark, SILENCE_MS)
  child.process.stdout.on('data', (chunk: Buffer) => {
    clearTimeout(watchdog)
    watchdog = setTimeout(bark, SILENCE_MS)
    const lines = (text + chunk.toString()).split('\n')
    text = lines.pop() ?? ''
    for (const line of lines) {
      const told = JSON.parse(line) as Told
      running = told.name
      if (told.problems === undefined) continue
      running = undefined
      done++
      for (const problem of told.problems) problems.push(`${told.name}: ${problem}`)
    }
  })
  child.process.stdin.end(JSON.stringify(names))
  const { code, signal, stderr } = await child.end
  clearTimeout(watchdog)
  const why = hung ? 'nothing happened any more' : `the process ended (${signal ?? code}): ${stderr.slice(-2000)}`
  return { done, running, why }
}
