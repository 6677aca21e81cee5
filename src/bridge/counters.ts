/** What a bridge has done since it was opened. */

/** Totals of a bridge since it was opened. */
export interface BridgeCounters {
  /** Messages of this bus that were sent to other machines; once for each machine. */
  sent: number
  /** Messages that came from other machines. */
  received: number
  /** Messages of other machines that did not arrive here, by the gaps in their sequences: dropped there, or lost with a connection. */
  missed: number
  /** Messages, requests, replies and records that NATS does not take, because they are larger than its limit. */
  oversized: number
  /** Calls from this bus to other machines. */
  made: number
  /** Calls from other machines to servers on this bus. */
  served: number
  /** Packets and headers that make no sense, and were dropped. */
  wrong: number
}

export function newCounters(): BridgeCounters {
  return { sent: 0, received: 0, missed: 0, oversized: 0, made: 0, served: 0, wrong: 0 }
}
