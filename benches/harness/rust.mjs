// The Rust programs of benches/rust: one process a window, its result a line of JSON.

import { execFile } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import path from 'node:path'
import { promisify } from 'node:util'

const run = promisify(execFile)

/** Runs one program for one window, in a directory of its own. */
export async function program(context, name, scenario, options = {}) {
  const dir = mkdtempSync(path.join(context.scratch, 'rust-'))
  const words = [scenario, '--dir', dir]
  for (const [key, value] of Object.entries(options)) words.push(`--${key}`, String(value))
  try {
    const { stdout } = await run(path.join(context.programs, name), words, { timeout: 120_000, maxBuffer: 1 << 24 })
    const result = JSON.parse(stdout.trim().split('\n').at(-1))
    if (result.bad || result.lost) throw new Error(`${result.bad} damaged, ${result.lost} lost`)
    return result
  } catch (error) {
    const reason = error.killed ? 'no result within two minutes' : error.stderr?.trim() || error.message
    throw new Error(`${name} ${scenario}: ${reason}`, { cause: error })
  } finally {
    rmSync(dir, { recursive: true, force: true })
  }
}

/** An entry of `alternate` over such a program. */
export function entry(context, label, kind, name, scenario, options) {
  const cores = options.cores?.split(',').map(Number)
  return {
    name: label,
    kind,
    cores,
    window: ({ warm, ms }) => program(context, name, scenario, { warm, ms, ...options }),
  }
}
