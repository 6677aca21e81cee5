// Context switches and system calls of processes that should be doing nothing.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import path from 'node:path'

export const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

/** Voluntary and forced switches of every thread of these processes so far. */
export function contextSwitches(pids) {
  let total = 0
  for (const pid of pids) {
    for (const thread of readdirSync(`/proc/${pid}/task`)) {
      const status = readFileSync(`/proc/${pid}/task/${thread}/status`, 'utf8')
      for (const [, count] of status.matchAll(/voluntary_ctxt_switches:\s*(\d+)/g)) total += Number(count)
    }
  }
  return total
}

/** Waits until nothing switched for two seconds (V8 tidies up for a while after work); false: never. */
export async function quiet(pids, patience) {
  const end = performance.now() + patience
  let before = contextSwitches(pids)
  while (performance.now() < end) {
    await pause(2000)
    const now = contextSwitches(pids)
    if (now === before) return true
    before = now
  }
  return false
}

/**
 * System calls begun within `ms`, seen by strace; undefined when there is no strace. Attaching itself breaks
 * off every wait once, so what is seen in the first second is left out.
 */
export async function systemCalls(pids, ms, scratch) {
  const directory = mkdtempSync(path.join(scratch, 'strace-'))
  const log = path.join(directory, 'log')
  try {
    const tracer = spawn('strace', ['-f', '-ttt', '-o', log, ...pids.flatMap((pid) => ['-p', String(pid)])], {
      stdio: 'ignore',
    })
    const exited = once(tracer, 'exit')
    const begun = Date.now() / 1000
    await pause(ms + 1000)
    tracer.kill('SIGINT')
    await exited
    const calls = []
    for (const line of readFileSync(log, 'utf8').split('\n')) {
      const [, time, call] = line.match(/^\d+\s+(\d+\.\d+) (\w+)\(/) ?? []
      if (call && Number(time) >= begun + 1 && Number(time) <= begun + 1 + ms / 1000) calls.push(call)
    }
    return calls
  } catch {
    return undefined
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}
