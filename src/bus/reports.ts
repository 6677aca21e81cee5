/** What `gc()` and `doctor()` answer: plain objects, in the core's words. */
import type { Rung } from './service.js'

/** What a gc found, in numbers of files. */
export interface GcReport {
  /** Records of living instances, left alone. */
  readonly alive: number
  /** Records removed. */
  readonly records: number
  /** Sockets removed. */
  readonly sockets: number
  /** Unfinished files removed. */
  readonly temporaries: number
  /** Names that are not ours, or no regular files: left alone. */
  readonly foreign: number
}

/** How a check ended, from best to worst. */
export type CheckStatus = 'ok' | 'warn' | 'fail'

/** One thing that was looked at. Checks may be added. */
export interface Check {
  /** What was looked at, such as `'yama'`. */
  readonly check: string
  /** How it ended. */
  readonly status: CheckStatus
  /** What was found. */
  readonly detail: string
  /** What to do about it; empty when all is well. */
  readonly advice: string
}

/** What this machine, this process and this bus allow. */
export interface Doctor {
  /** The worst of all checks. */
  readonly status: CheckStatus
  /** The rung that an acquisition from this process would most likely take. */
  readonly rung: Rung
  /** Why, and why not a better one. */
  readonly reason: string
  /** One by one. */
  readonly checks: readonly Check[]
}
