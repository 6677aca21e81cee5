// A state: reading 64 B in Rust and in Node while its writer updates it a million times a second, and the rate of a writer
// that has 0 to 64 readers. Each of those readers looks a thousand times a second.

import { execFile } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import path from 'node:path'
import { promisify } from 'node:util'
import { alternate } from '../harness/rounds.mjs'
import { program } from '../harness/rust.mjs'

const RATE = 1_000_000
const NODE = path.join(import.meta.dirname, '../node/ringbell-state.mjs')

export async function run(context) {
  if (!context.has.ringbellRust) return []
  const readers = [0, 1, 8, 64].map((count) => ({
    name: `${count} readers`,
    kind: 'ringbell',
    window: () => program(context, 'ringbell-state', 'write', { readers: count, rate: RATE }),
  }))
  const reads = [
    { name: 'Rust read', kind: 'ringbell', window: () => program(context, 'ringbell-state', 'read', { rate: RATE }) },
    { name: 'Node readInto', kind: 'ringbell', window: ({ ms }) => inNode(context, ms) },
  ]
  return [
    {
      scenario: 'state',
      case: '64 B, while it is updated',
      metric: 'nsPerRead',
      unit: 'ns',
      entries: await alternate(reads, { ...context, title: 'state reads' }),
    },
    {
      scenario: 'state',
      case: 'updates of a writer',
      metric: 'perSecond',
      unit: '/s',
      entries: await alternate(readers, { ...context, title: 'state writes' }),
    },
  ]
}

async function inNode(context, ms) {
  const dir = mkdtempSync(path.join(context.scratch, 'state-'))
  try {
    const words = [NODE, context.programs, dir, String(ms), String(RATE)]
    const { stdout } = await promisify(execFile)(process.execPath, words, { timeout: 120_000 })
    return JSON.parse(stdout)
  } finally {
    rmSync(dir, { recursive: true, force: true })
  }
}
