/** A service instance as others see it: the record of the bus, checked by the core, with the field names of this API. */
import type { RoleInfo } from './membership.js'

/** How a peer's memory and doorbells are acquired. */
export type Rung = 'direct' | 'handshake' | 'stream'

/** Why a rung of the ladder was not taken. */
export interface Fallback {
  /** The rung that was not taken. */
  readonly rung: Rung
  /** The reason as a code: that of an error, or a code such as `NOT_OFFERED`. */
  readonly code: string
  /** The reason in words. */
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
  /** Milliseconds that a subscriber may stall a `block` topic. Absent: without a limit. */
  readonly evictAfter?: number
  /** Slots for subscribers. */
  readonly maxSubscribers: number
  /** Slots for subscribers of other users; 0: they are not let in. */
  readonly maxGuests: number
}

/** Which other users may use an instance, besides its own and root. The instance itself says so. */
export interface AccessInfo {
  /** The mode of the socket in octal, such as `'0660'`. */
  readonly mode: string
  /** The group that the record and the socket belong to. */
  readonly group?: number
  /** Permitted users. */
  readonly uids: readonly number[]
  /** Groups whose members are permitted. */
  readonly gids: readonly number[]
}

/**
 * Where a remote instance is. A bridge announces an instance of another bus (`ringbell/nats`) with this as `origin` in its metadata.
 */
export interface Origin {
  /** The bus that the instance is on: the bridge of that bus, as this run of it is called. */
  readonly bus: string
  /** The host name of that machine. */
  readonly host: string
  /** The id of the instance there. */
  readonly id: string
  /** Bridges between the instance and this bus. */
  readonly hops: number
}

/** One instance of a service. Frozen; an update is a new object with the same `id`. */
export interface Service {
  /** The name that others look for. */
  readonly name: string
  /** The id of this instance: 128 random bits in hex, never used again. */
  readonly id: string
  /** `'topic'` for a publisher, `'server'`, `'queue'`, or the `kind` that `announce` was called with. */
  readonly kind: string
  /** The process id, in the pid namespace of that process. */
  readonly pid: number
  /** The user of the process. */
  readonly uid: number
  /** The version of the shared-memory protocol. */
  readonly protocol: number
  /** The rungs that it offers. */
  readonly offers: readonly Rung[]
  /** Its metadata. */
  readonly metadata: Readonly<Record<string, unknown>>
  /** Addresses by name, such as `unix:/run/api.sock`. */
  readonly endpoints: Readonly<Record<string, string>>
  /** The id of the codec that it uses. */
  readonly codec?: string
  /** The id of the payload's schema. */
  readonly schemaId?: string
  /** The ring of a topic; absent for other kinds. */
  readonly topic?: TopicInfo
  /** Where it is, if a bridge has announced it for another bus; absent: it is on this bus. */
  readonly origin?: Origin
  /** The role of the member of a service group that announces it; absent: it is of no member. */
  readonly group?: RoleInfo
  /** Which other users may use it; absent: none. */
  readonly access?: AccessInfo
  /** The record as it is in the bus directory. */
  readonly record: Readonly<Record<string, unknown>>
}

/** The fields of a record that are read here. The core has checked their types. */
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
  group?: RoleInfo
  access?: { mode: string; group?: number; uids?: number[]; gids?: number[] }
}

export function serviceOf(record: RecordJson): Service {
  const { topic, access, group } = record
  const origin = originOf(record.metadata?.['origin'])
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
    ...(record.payloadSchema === undefined ? {} : { schemaId: record.payloadSchema }),
    ...(topic === undefined ? {} : { topic: topicOf(topic) }),
    ...(origin === undefined ? {} : { origin }),
    ...(group === undefined ? {} : { group: { role: group.role, epoch: group.epoch } }),
    ...(access === undefined ? {} : { access: { ...access, uids: access.uids ?? [], gids: access.gids ?? [] } }),
    record: record as unknown as Readonly<Record<string, unknown>>,
  })
}

/** What a bridge has written. Users may have something else of that name in their metadata. */
function originOf(value: unknown): Origin | undefined {
  if (typeof value !== 'object' || value === null) return undefined
  const { bus, host, id, hops } = value as Record<string, unknown>
  const texts = [bus, host, id].every((text) => typeof text === 'string')
  return texts && typeof hops === 'number' ? (value as Origin) : undefined
}

/** Those of this bus first, each in its order. */
export function nearestFirst<S extends { readonly origin?: Origin }>(services: readonly S[]): S[] {
  const near = services.filter(({ origin }) => origin === undefined)
  return near.length === services.length ? near : [...near, ...services.filter(({ origin }) => origin !== undefined)]
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
