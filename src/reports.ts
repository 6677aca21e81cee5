/** What `gc()` and `doctor()` answer: plain objects, in the core's words. */

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

/** Findings by topic; made for people and for `ringbell doctor --json`, so topics may be added. */
export interface Doctor {
  readonly [topic: string]: unknown
}
