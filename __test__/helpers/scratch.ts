/** A folder of one test, and what the processes of a test leave behind. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { ExecutionContext } from 'ava'

/** A fresh folder, removed at the end of the test. */
export function folder(t: ExecutionContext): string {
  const path = mkdtempSync(join(tmpdir(), 'ringbell-scratch-'))
  t.teardown(() => rmSync(path, { recursive: true, force: true }))
  return path
}

/** Whether a process runs: it is there, and no zombie. The start time is not compared, so ask soon. */
export function runs(pid: number): boolean {
  try {
    return !/\) [ZX] /.test(readFileSync(`/proc/${pid}/stat`, 'latin1'))
  } catch {
    return false
  }
}
