/**
 * The results of `stats()` of topics: plain objects of counters, read from shared memory during the call. The names are
 * those of the core (crates/core/src/topic/stats.rs). All counters are totals since the beginning; sizes are in bytes.
 */
import type { Rung, Fallback } from '../bus/service.js'

/** The counters in the data segment of a publisher, which every subscriber can read. */
export interface TopicCounters {
  /** Messages committed. A message in pieces counts with its last piece. */
  readonly messages: number
  /** Bytes of payload committed, including those of pieces. */
  readonly bytes: number
  /** Times that a message found no room. */
  readonly full: number
  /** Messages dropped under `drop-newest`. */
  readonly dropped: number
  /** Doorbells rung. */
  readonly rings: number
  /** Subscribers evicted or expelled. */
  readonly evicted: number
  /** Slots of dead subscribers freed. */
  readonly reaped: number
  /** Largest backlog seen when the publisher was short of room. */
  readonly highWater: number
  /** Pieces of large messages committed. */
  readonly fragments: number
  /** Bytes committed, headers included. */
  readonly head: number
  /** Bytes given up to be overwritten. */
  readonly floor: number
  /** Whether the publisher has closed. */
  readonly closed: boolean
}

/** How far acknowledgements are behind, and what was delivered more than once. */
export interface AckStats {
  /** Messages that were taken out of the ring and are not acknowledged to the publisher. */
  readonly pending: number
  /** Times that acknowledgements were sent to the publisher. Not counted with `ack: 'immediate'` and no durable name. */
  readonly flushed: number
  /** Messages that an earlier subscriber with the durable name may have received. */
  readonly redelivered: number
}

/** The counters of a publisher, and of each of its subscribers. */
export interface PublisherStats extends TopicCounters {
  /** Bytes of the ring. */
  readonly capacity: number
  /** Bytes that can be written before the slots are checked again. */
  readonly free: number
  /** Times that it went to sleep because there was no room. */
  readonly waits: number
  /** The rungs that it offers. */
  readonly offers: readonly Rung[]
  /** Further rungs that it should offer and cannot, and why. */
  readonly fallbacks: readonly Fallback[]
  /** The attached subscribers that are alive, and the durable positions that have no subscriber now. */
  readonly subscribers: readonly SlotStats[]
}

/** One attached subscriber. The subscriber reports all values but `slot` and `backlog` itself. */
export interface SlotStats {
  /** Its slot in the control segment. */
  readonly slot: number
  /** `'parked'`: a durable position is kept, and no subscriber reads. */
  readonly state: 'free' | 'joining' | 'active' | 'evicted' | 'expelled' | 'parked'
  /** Bytes that it has not read yet. */
  readonly backlog: number
  /** Messages that it has received. */
  readonly received: number
  /** Messages that were overwritten before it read them. */
  readonly missed: number
  /** Times it was woken. */
  readonly wakeups: number
  /** Its process. */
  readonly pid: number
  /** Whether its position is kept under a name. */
  readonly durable: boolean
  /** Its acknowledgements. */
  readonly acks: AckStats
  /** The user of a guest, as the kernel reports it. Only the publisher knows it. */
  readonly uid?: number
  /** The rung by which it reads; `null` until it has reported that. */
  readonly rung: Rung | null
}

/** The counters of a subscriber, and of each publisher that it reads from. */
export interface SubscriberStats {
  /** Messages received from all publishers since the beginning. */
  readonly received: number
  /** Messages missed. */
  readonly missed: number
  /** Times that it was woken from sleep. */
  readonly wakeups: number
  /** Times that it rang the doorbell of a publisher that waited for room, and reports that it sent over streams. */
  readonly rings: number
  /** Acknowledgements. `pending` counts only publishers that it is attached to now. */
  readonly acks: AckStats
  /** The publishers that it is attached to. */
  readonly sources: readonly SourceStats[]
}

/** One publisher that a subscriber is attached to. */
export interface SourceStats {
  /** The subscriber's own number for it. */
  readonly source: number
  /** The publisher's service name. */
  readonly service: string
  /** Its instance. */
  readonly id: string
  /** Its process. */
  readonly pid: number
  /** How its memory was acquired. */
  readonly rung: Rung
  /** The better rungs that were not taken, and why. */
  readonly fallbacks: readonly Fallback[]
  /** Whether it reads as a guest: the publisher belongs to another user. */
  readonly guest: boolean
  /** The slot that it has there. */
  readonly slot: number
  /** Messages received from it. */
  readonly received: number
  /** Messages of it that were overwritten before they were read. */
  readonly missed: number
  /** Bytes that it has not read yet. */
  readonly backlog: number
  /** Acknowledgements to it. */
  readonly acks: AckStats
  /** The counters of the publisher; over a stream, as the publisher reported them last. */
  readonly publisher: TopicCounters
  /** All subscribers of that publisher, including this one, and the durable positions that it keeps. */
  readonly subscribers: readonly SlotStats[]
}
