/** How much processor time and memory a process uses, by /proc. Only processes of this pid namespace can be looked at. */
import { readFileSync, statSync } from 'node:fs'

/** Linux reports times in these ticks on every machine that Node runs on. */
const TICKS_PER_SECOND = 100

/** A process by its number and the pid namespace in which that counts. */
export interface ProcessNumber {
  readonly pid: number | undefined
  readonly pidNamespace: number | undefined
}

/** For maps. */
export function keyOf({ pid, pidNamespace }: ProcessNumber): string {
  return `${pidNamespace} ${pid}`
}

/** What a process has used. */
export interface Usage {
  /** Processor time in seconds since its start. */
  readonly seconds: number
  /** Memory that is its own or shared with others, in bytes. */
  readonly memory: number
}

/** `undefined`: there is no such process, or it cannot be looked at. */
export function usageOf({ pid, pidNamespace }: ProcessNumber): Usage | undefined {
  try {
    // Here somebody else has that number.
    if (statSync('/proc/self/ns/pid').ino !== pidNamespace) return undefined
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
    // The second field is the command in parentheses, which may contain anything.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    const [, kibibytes = '0'] = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1')) ?? []
    return {
      seconds: (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND,
      memory: Number(kibibytes) * 1024,
    }
  } catch {
    return undefined
  }
}
