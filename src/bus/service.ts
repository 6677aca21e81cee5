/** A service instance as others see it: the record of the bus, checked by the core, in the words of this API. */

/** How a peer's memory and doorbells are acquired. */
export type Rung = 'direct' | 'handshake' | 'stream'

/** Why a rung of the ladder was not taken. */
export interface Fallback {
  /** The rung that was passed over. */
  readonly rung: Rung
  /** Why, as a code: of an error, or such as `NOT_OFFERED`. */
  readonly code: string
  /** Why, in words. */
  readonly reason: string
}

/** What happens to a message that finds the ring full. */
export type Overflow = 'block' | 'drop-oldest' | 'drop-newest'

/** The topic of a publisher. */
export interface TopicInfo {
  /** Bytes of the ring, a power of two. */
  readonly capacity: number
  /** What happens to a message that finds the ring full. */
  readonly overflow: Overflow
  /** Milliseconds that a subscriber may stall a `block` topic; absent: for ever. */
  readonly evictAfter?: number
  /** Places for subscribers. */
  readonly maxSubscribers: number
  /** Places for subscribers of other users; 0: they are not let in. */
  readonly maxGuests: number
}

/** Which other users may use an instance, besides its own and root; by its own words. */
export interface AccessInfo {
  /** Of the socket, octal, such as `'0660'`. */
  readonly mode: string
  /** The group that record and socket belong to. */
  readonly group?: number
  /** Users who may. */
  readonly uids: readonly number[]
  /** Groups whose members may. */
  readonly gids: readonly number[]
}

/** One instance of a service. Frozen; an update is a new object with the same `id`. */
export interface Service {
  /** The name that others look for. */
  readonly name: string
  /** This instance: 128 random bits in hex, never used again. */
  readonly id: string
  /** `'topic'` for a publisher, otherwise what `announce` was given. */
  readonly kind: string
  /** The process in its own pid namespace. */
  readonly pid: number
  /** The process's user. */
  readonly uid: number
  /** The version of the shared-memory protocol. */
  readonly protocol: number
  /** The acquisitions on offer. */
  readonly offers: readonly Rung[]
  /** What it says of itself. */
  readonly metadata: Readonly<Record<string, unknown>>
  /** Addresses by name, such as `unix:/run/api.sock`. */
  readonly endpoints: Readonly<Record<string, string>>
  /** The id of the codec that it speaks. */
  readonly codec?: string
  /** The id of the payload's schema. */
  readonly schema?: string
  /** Of a topic: its ring. */
  readonly topic?: TopicInfo
  /** Absent: nobody else. */
  readonly access?: AccessInfo
  /** The record as it stands in the bus directory. */
  readonly record: Readonly<Record<string, unknown>>
}

/** The fields that are read here; the core has checked their types. */
export interface RecordJson {
  service: string
  id: string
  kind: string
  pid: number
  uid: number
  protocol: number
  offers?: Rung[]
  metadata?: Record<string, unknown>
  endpoints?: Record<string, string>
  codec?: string
  payloadSchema?: string
  topic?: { capacity: number; overflow: Overflow; evictAfterMs?: number; maxSubscribers: number; maxGuests?: number }
  access?: { mode: string; group?: number; uids?: number[]; gids?: number[] }
}

export function serviceOf(record: RecordJson): Service {
  const { topic, access } = record
  return Object.freeze({
    name: record.service,
    id: record.id,
    kind: record.kind,
    pid: record.pid,
    uid: record.uid,
    protocol: record.protocol,
    offers: record.offers ?? [],
    metadata: record.metadata ?? {},
    endpoints: record.endpoints ?? {},
    ...(record.codec === undefined ? {} : { codec: record.codec }),
    ...(record.payloadSchema === undefined ? {} : { schema: record.payloadSchema }),
    ...(topic === undefined ? {} : { topic: topicOf(topic) }),
    ...(access === undefined ? {} : { access: { ...access, uids: access.uids ?? [], gids: access.gids ?? [] } }),
    record: record as unknown as Readonly<Record<string, unknown>>,
  })
}

function topicOf(topic: NonNullable<RecordJson['topic']>): TopicInfo {
  const { capacity, overflow, maxSubscribers, evictAfterMs, maxGuests = 0 } = topic
  return {
    capacity,
    overflow,
    maxSubscribers,
    maxGuests,
    ...(evictAfterMs === undefined ? {} : { evictAfter: evictAfterMs }),
  }
}
