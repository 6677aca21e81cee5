/**
 * What `stats()` of topics returns: plain objects of counters, read from shared memory at the call. The names are the core's
 * (crates/core/src/topic/stats.rs). All counters are totals since the beginning; sizes are in bytes.
 */
import type { Rung, Fallback } from '../bus/service.js'

/** What a publisher counts in its data segment, for every subscriber to read. */
export interface TopicCounters {
  /** Messages committed. One that is sent in pieces counts with its last. */
  readonly messages: number
  /** Bytes of payload committed, those of single pieces among them. */
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

/** How far acknowledgements lag behind, and what was delivered more than once. */
export interface AckStats {
  /** Messages taken out of the ring whose acknowledgement was not told to the publisher. */
  readonly pending: number
  /** Times that acknowledgements were told to the publisher. Not counted with `ack: 'immediate'` and no durable name. */
  readonly flushed: number
  /** Messages that an earlier holder of the durable name may have received. */
  readonly redelivered: number
}

/** The counters of a publisher, and of each of its subscribers. */
export interface PublisherStats extends TopicCounters {
  /** Bytes of the ring. */
  readonly capacity: number
  /** Bytes that can be written before the slots are looked at again. */
  readonly free: number
  /** Times that it went to sleep for want of room. */
  readonly waits: number
  /** The rungs that it offers. */
  readonly offers: readonly Rung[]
  /** Why not those that it was to offer besides. */
  readonly fallbacks: readonly Fallback[]
  /** The attached subscribers that are alive, and the durable positions that are kept for those who are not. */
  readonly subscribers: readonly SlotStats[]
}

/** One attached subscriber; all but `slot` and `backlog` by its own account. */
export interface SlotStats {
  /** Its place in the control segment. */
  readonly slot: number
  /** `'parked'`: nobody reads, and a durable position is kept. */
  readonly state: 'free' | 'joining' | 'active' | 'evicted' | 'expelled' | 'parked'
  /** Bytes that it has still to read. */
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
  /** Of a guest: its user, by the kernel's word. Only its publisher knows. */
  readonly uid?: number
  /** By which rung it reads; `null` until it has said so. */
  readonly rung: Rung | null
}

/** The counters of a subscriber, and of each publisher that it reads from. */
export interface SubscriberStats {
  /** Messages received, from all publishers there ever were. */
  readonly received: number
  /** Messages missed. */
  readonly missed: number
  /** Times that it was woken from sleep. */
  readonly wakeups: number
  /** Times that it rang a publisher that waited for room, and reports sent over streams. */
  readonly rings: number
  /** Acknowledgements; what is pending, of the publishers that it is attached to now. */
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
  /** Why not by a better rung. */
  readonly fallbacks: readonly Fallback[]
  /** As a guest: the publisher is another user's. */
  readonly guest: boolean
  /** The place that is taken there. */
  readonly slot: number
  /** Messages received from it. */
  readonly received: number
  /** Messages of it that were overwritten before they were read. */
  readonly missed: number
  /** Bytes that are still to be read. */
  readonly backlog: number
  /** Acknowledgements to it. */
  readonly acks: AckStats
  /** Over a stream, as the publisher told it last. */
  readonly publisher: TopicCounters
  /** All subscribers of that publisher, this one among them, and the positions that it keeps. */
  readonly subscribers: readonly SlotStats[]
}
