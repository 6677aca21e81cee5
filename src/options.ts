/**
 * The options of a bus and its endpoints. What only TypeScript knows (codec, wait, signals, how many acknowledgements go
 * together) is checked here. Everything else goes to the core as the user wrote it, and the core checks it, before any file is touched.
 */
import type { SignalOptions } from './abort.js'
import type { AckMode, AckPolicy } from './acks.js'
import type { Lifetime } from './batch.js'
import {
  check,
  coreJson,
  duration,
  integer,
  invalid,
  jsonOf,
  nested,
  oneOf,
  signal,
  text,
  type Rule,
  type Rules,
} from './check.js'
import type { CodecOption } from './codec/index.js'
import type { Overflow, Rung } from './service.js'
import { checkWait, type WaitOption } from './waiting.js'

export interface BusOptions {
  /** The directory; otherwise `IPC_BUS_DIR`, or the first usable default place. */
  path?: string | undefined
  /** A name space of its own: a sub-directory. */
  domain?: string | undefined
  /** The system's bus, `/run/ipc-bus`, whatever `IPC_BUS_DIR` says; not together with `path`. */
  system?: boolean | undefined
  /** Accept a sticky directory that others can write to. */
  allowSticky?: boolean | undefined
  /**
   * Share the directory with this group, by name or number: it is setgid, sticky and writable by the group (mode 3770), made so
   * if there is none, refused if it is otherwise. Announcements in it are for others only with `access`.
   */
  group?: string | number | undefined
  /** Users whose records are believed, and whose directory is used, besides our own and root's. */
  trustedUids?: number[] | undefined
  /** `'poll'` does without inotify, as `IPC_BUS_WATCH=poll` does. */
  watch?: 'inotify' | 'poll' | undefined
  /** Milliseconds between two scans where there is no inotify. */
  pollInterval?: number | undefined
  /** Forces a rung of the acquisition ladder, as `IPC_BUS_ACQUIRE` does. */
  acquire?: Rung | 'auto' | undefined
}

/** Which other users may read a record and use what it announces: a server, say. One's own user and root always may. */
export interface Access {
  /**
   * `0o660`: the group can reach the socket (the default where there is a group), and nobody else, whoever is listed;
   * `0o666`: whoever can enter the directory (the default otherwise), and those who may are let in.
   */
  mode?: number | undefined
  /** The group that record and socket belong to, whose members may; by default the bus's own. */
  group?: string | number | undefined
  /** Users who may. */
  uids?: number[] | undefined
  /** More groups whose members may. */
  gids?: number[] | undefined
}

/** Access to a topic: subscribers of other users are *guests*, each with a control segment and a socket of its own, or streamed to. */
export interface TopicAccess extends Access {
  /** How many guests at a time, 1 to 64, 16 by default. */
  maxGuests?: number | undefined
  /** Milliseconds that a guest may leave no room for one and the same message before it is evicted; 1000 by default. */
  evictAfter?: number | undefined
}

/** What any announcement may say about itself. */
export interface Description {
  /** Whatever others should know; what JSON can carry, all in all at most about 60 KiB. */
  metadata?: Record<string, unknown> | undefined
  /** Addresses by name, such as `{ http: 'unix:/run/api.sock' }`. */
  endpoints?: Record<string, string> | undefined
  /** The id of the payload's schema. */
  schema?: string | undefined
}

export interface PublisherOptions<T = Uint8Array> extends Description {
  /** Bytes of the ring: a power of two from 4 KiB to 1 GiB, 1 MiB by default. The largest message that goes at once is just under half of it. */
  capacity?: number | undefined
  /** What happens to a message that finds the ring full; `'block'` by default. */
  overflow?: Overflow | undefined
  /** Slots, 1 to 1024, 64 by default. */
  maxSubscribers?: number | undefined
  /** Milliseconds that a subscriber may stall a `block` topic before it is evicted; by default for ever. */
  evictAfter?: number | undefined
  codec?: CodecOption<T> | undefined
  /** How `ready()` waits, `'adaptive'` by default. */
  wait?: WaitOption | undefined
  /** Lets processes of the same user copy our descriptors under Yama (`prctl(PR_SET_PTRACER, ANY)`): faster to join, at Yama's expense. */
  allowDirect?: boolean | undefined
  /** The rungs on offer, all that work by default. */
  offers?: Rung[] | undefined
  /** Let other users subscribe; by default nobody but root may. */
  access?: TopicAccess | undefined
}

export interface SubscriberOptions<T = Uint8Array> {
  /** `'latest'` (default): what is sent from now on. `'earliest'`: first what the ring still holds. */
  from?: 'latest' | 'earliest' | undefined
  /** Expect this codec: a publisher with another one is not joined (`'failed'`). Without it, bytes, whatever they mean. */
  codec?: CodecOption<T> | undefined
  /** How to wait for messages, `'adaptive'` by default. */
  wait?: WaitOption | undefined
  /** Forces a rung of the acquisition ladder. */
  acquire?: Rung | 'auto' | undefined
  /**
   * The largest message in bytes that is taken if it comes in pieces, 64 MiB by default, at most 1 GiB: a publisher's word is enough
   * to have as much memory reserved for it. Larger ones are missed (`'missed'`). What a ring takes at once is not limited.
   */
  maxMessage?: number | undefined
  /**
   * When a message counts as done, and gives its room back. `'immediate'` (default): when it is copied out of the ring.
   * `'batch'`: when the next one is asked for; publishers are told many at a time. `'deferred'`: by `ack()`. The last two are
   * for `block` topics; others are not joined (`'failed'`).
   */
  ack?: AckMode | undefined
  /** With `ack: 'batch'`, messages told at once, 8 to 256, 32 by default. */
  ackBatch?: number | undefined
  /** With `ack: 'batch'`, milliseconds that what is done may wait, 1 to 50, 5 by default. */
  ackInterval?: number | undefined
  /**
   * A name under which each publisher keeps this subscriber's place for as long as it lives. Whoever comes back under it goes on
   * behind the last acknowledged message, whatever `from` says. One holder at a time; `block` topics only.
   */
  durable?: string | undefined
  /** What to do when the connection of a stream fails though its publisher lives. */
  reconnect?: ReconnectOptions | undefined
}

/** When connecting fails, or a connection fails though its other end lives. */
export interface ReconnectOptions {
  /** Tries in a row before it is given up (`'gaveUp'`), 5 by default; 0: for ever. */
  tries?: number | undefined
  /** Milliseconds before the first, 1,000 by default; doubled each time, and up to a quarter off either way. */
  delay?: number | undefined
  /** The longest of them, 30,000 by default. */
  maxDelay?: number | undefined
}

export interface AnnounceOptions extends Description {
  /** `'service'` by default. */
  kind?: string | undefined
  /** The id of the codec that is spoken. */
  codec?: string | undefined
  /** Let other users read the record, whatever the umask says. */
  access?: Access | undefined
}

const LONGEST_WAIT_MS = 2 ** 31 - 1
export const LABEL = text(256)
/** Judged by `resolveCodec`, which has better words. */
export const anything: Rule = () => undefined

/** Of a client's or worker's: it reconnects by itself. A subscriber's is the core's. */
export const reconnect: Rule = nested('reconnect', {
  tries: integer(0, 2 ** 20),
  delay: duration(1, LONGEST_WAIT_MS, 'milliseconds'),
  maxDelay: duration(1, LONGEST_WAIT_MS, 'milliseconds'),
})

const ENDPOINT: Rules = { codec: anything, wait: checkWait }
const SIGNAL: Rules = { signal }
const BATCHES: Rules = { signal, lifetime: oneOf('owned', 'borrowed', 'lease') }
const ATTACHED: Rules = { signal, count: integer(1, 2 ** 20) }
const READY: Rules = { signal, bytes: integer(0, 2 ** 30) }
const WAIT_FOR: Rules = { signal, timeout: duration(0, LONGEST_WAIT_MS, 'milliseconds') }
const WATCH: Rules = { signal, filter: text(256) }

export function busJson(options: BusOptions): string {
  return coreJson(options, {})
}

export function publisherJson(options: PublisherOptions<unknown>, codecId: string): string {
  return coreJson(options, ENDPOINT, { codec: codecId })
}

export function subscriberJson(options: SubscriberOptions<unknown>, codecId: string | undefined): string {
  const json = coreJson(options, ENDPOINT, { codec: codecId })
  for (const name of ['ackBatch', 'ackInterval'] as const)
    if (options[name] !== undefined && options.ack !== 'batch') throw invalid(name, options[name], "needs ack: 'batch'")
  return json
}

/** Of options that the core has taken. */
export function ackPolicy({ ack, ackBatch, ackInterval }: SubscriberOptions<unknown>): AckPolicy | undefined {
  if (ack === undefined || ack === 'immediate') return undefined
  return { mode: ack, batch: ackBatch ?? 32, interval: ackInterval ?? 5 }
}

export function announceJson(options: AnnounceOptions): string {
  return coreJson(options, {})
}

export function metadataJson(metadata: Record<string, unknown>): string {
  return jsonOf(metadata, 'metadata')
}

export function checkSignal(options: SignalOptions): void {
  check(options, SIGNAL)
}

export function checkLifetime(options: { lifetime?: Lifetime | undefined }): void {
  check(options, BATCHES)
}

export function checkAttached(options: object): void {
  check(options, ATTACHED)
}

export function checkReady(options: object): void {
  check(options, READY)
}

export function checkWaitFor(options: object): void {
  check(options, WAIT_FOR)
}

export function checkWatch(options: object): void {
  check(options, WATCH)
}

/** The codec of options that were not looked at yet, and may be anything. */
export function codecOf(options: unknown): CodecOption | undefined {
  return (options as { codec?: CodecOption } | null | undefined)?.codec
}
