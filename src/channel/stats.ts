/** The results of `stats()` of channels: counters of the calls of this side, and the core's counters of its rings. */
import type { HandlingCounters } from './handling.js'

/** The core's counters, with the core's field names (docs/protocol.md and crates/core/src/channel). */
export type CoreChannelStats = Readonly<Record<string, unknown>>

/** The counters of a server. */
export interface ServerStats extends Readonly<HandlingCounters> {
  /** Connections now. */
  readonly connections: number
  /** Connections since the beginning. */
  readonly accepted: number
  /** Requests that are being handled. */
  readonly inHand: number
  /** Handlers that still run although their callers have given up or are gone. They count for `maxRequests`. */
  readonly abandoned: number
  /** The core's counters of its rings. */
  readonly core: CoreChannelStats
}

/** The counters of a client. */
export interface ClientStats {
  /** Connected servers. */
  readonly connections: number
  /** Calls and streams that were begun. */
  readonly calls: number
  /** Calls and streams without an answer. */
  readonly inFlight: number
  /** Calls and streams that wait for a connection. */
  readonly waiting: number
  /** Calls and streams that were sent again, because their connection was gone or its server was closing. */
  readonly repeated: number
  /** The core's counters of its rings. */
  readonly core: CoreChannelStats
}

/** The counters of a work queue. While it is open, `pushed` is the sum of `waiting`, `delayed`, `assigned`, `acknowledged`, `failed` and `withdrawn`. */
export interface QueueStats {
  /** Connected workers. */
  readonly workers: number
  /** Messages that wait for a worker. */
  readonly waiting: number
  /** Messages that are not to be assigned yet: their `delay` or the pause before their next attempt is not over. */
  readonly delayed: number
  /** Messages that a worker has, and has not acknowledged. */
  readonly assigned: number
  /** Messages that were accepted. A dead letter that is tried again counts again. */
  readonly pushed: number
  /** Messages that workers have acknowledged. */
  readonly acknowledged: number
  /** Times that a message was delivered again. */
  readonly redelivered: number
  /** Messages that were given up after the last allowed attempt. */
  readonly failed: number
  /** Messages of `run` that were taken back, because their signal fired. */
  readonly withdrawn: number
  /** Messages that are in `deadLetters`. */
  readonly deadLetters: number
  /** Messages that were dropped from `deadLetters`, because there were too many. */
  readonly deadLettersDropped: number
  /** The core's counters of its rings. */
  readonly core: CoreChannelStats
}

/** The counters of a worker. */
export interface WorkerStats extends Readonly<HandlingCounters> {
  /** Queues that it works for. */
  readonly connections: number
  /** Messages that are being worked on. */
  readonly inHand: number
  /** Handlers that still run although their queues have given up on them or are gone. */
  readonly abandoned: number
  /** The core's counters of its rings. */
  readonly core: CoreChannelStats
}

export function coreStats(json: string): CoreChannelStats {
  return JSON.parse(json) as CoreChannelStats
}
