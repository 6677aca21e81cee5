/** The results of `gc()` and `doctor()`: plain objects with the field names of the core. */
import type { Rung } from './service.js'

/** What `gc()` found, in numbers of files. */
export interface GcReport {
  /** Records of living instances; they are kept. */
  readonly alive: number
  /** Records removed. */
  readonly records: number
  /** Sockets removed. */
  readonly sockets: number
  /** Unfinished files removed. */
  readonly temporaries: number
  /** Files with other names, or that are not regular files; they are kept. */
  readonly foreign: number
}

/** The result of a check, from best to worst. */
export type CheckStatus = 'ok' | 'warn' | 'fail'

/** One check. Later versions may add checks. */
export interface Check {
  /** What was checked, such as `'yama'`. */
  readonly check: string
  /** The result. */
  readonly status: CheckStatus
  /** What was found. */
  readonly detail: string
  /** What to do about it; empty when all is well. */
  readonly advice: string
}

/** What this machine, this process and this bus allow. */
export interface Doctor {
  /** The worst result of all checks. */
  readonly status: CheckStatus
  /** The rung that an acquisition from this process would most likely take. */
  readonly rung: Rung
  /** Why this rung, and why not a better one. */
  readonly reason: string
  /** The single checks. */
  readonly checks: readonly Check[]
}
