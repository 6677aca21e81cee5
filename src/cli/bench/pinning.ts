/**
 * Which two CPUs the benchmark's processes are pinned to, by the system's `taskset`. Otherwise two processes that wait
 * for each other are often put on one CPU, and then only the scheduler is measured.
 */
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'

export type Cpus = readonly [number, number]

/** Two CPUs that we may use, far apart so that they hardly share a core; `undefined` if there is only one CPU or no taskset. */
export function twoCpus(): Cpus | undefined {
  const list = /^Cpus_allowed_list:\s*(.*)$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? ''
  const numbers = list.split(/[,-]/).map(Number)
  const [first, last] = [numbers.at(0), numbers.at(-1)]
  if (first === undefined || last === undefined || !(first < last)) return undefined
  const works = [first, last].every((cpu) => spawnSync('taskset', ['-c', String(cpu), 'true']).status === 0)
  return works ? [first, last] : undefined
}

/** The options of `fork` for a pinned child. */
export function pinned(cpu: number | undefined): { execPath?: string; execArgv: string[] } {
  if (cpu === undefined) return { execArgv: [] }
  return { execPath: 'taskset', execArgv: ['-c', String(cpu), process.execPath] }
}
