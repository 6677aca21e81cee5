/** What `stats()` of channels returns: counters of the calls of this side, beside the core's counters of its rings. */
import type { HandlingCounters } from './handling.js'

/** What the core counts: an object by its own words (docs/protocol.md and crates/core/src/channel). */
export type CoreChannelStats = Readonly<Record<string, unknown>>

/** The counters of a server. */
export interface ServerStats extends Readonly<HandlingCounters> {
  /** Connections right now. */
  readonly connections: number
  /** Connections that there ever were. */
  readonly accepted: number
  /** Requests that are being handled. */
  readonly inHand: number
  /** What the core counts of its rings. */
  readonly core: CoreChannelStats
}

/** The counters of a client. */
export interface ClientStats {
  /** Connected servers. */
  readonly connections: number
  /** Calls and streams that were begun. */
  readonly calls: number
  /** Without an answer yet. */
  readonly inFlight: number
  /** Those of them that wait for a connection. */
  readonly waiting: number
  /** Put through once more, because their first connection was gone or its server closing. */
  readonly repeated: number
  /** What the core counts of its rings. */
  readonly core: CoreChannelStats
}

/** The counters of a work queue. */
export interface QueueStats {
  /** Connected workers. */
  readonly workers: number
  /** Messages that no worker has yet. */
  readonly waiting: number
  /** With a worker, and not acknowledged. */
  readonly assigned: number
  /** Messages that were accepted. */
  readonly pushed: number
  /** Messages that workers have done. */
  readonly acknowledged: number
  /** Given to a worker for another time. */
  readonly redelivered: number
  /** Given up after as many attempts as are allowed. */
  readonly failed: number
  /** What the core counts of its rings. */
  readonly core: CoreChannelStats
}

/** The counters of a worker. */
export interface WorkerStats extends Readonly<HandlingCounters> {
  /** Queues that it works for. */
  readonly connections: number
  /** Messages that are being worked on. */
  readonly inHand: number
  /** What the core counts of its rings. */
  readonly core: CoreChannelStats
}

export function coreStats(json: string): CoreChannelStats {
  return JSON.parse(json) as CoreChannelStats
}
