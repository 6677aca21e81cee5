/**
 * The options of publishers and subscribers. Options that only TypeScript knows (codec, wait, signals, how many
 * acknowledgements go together) are checked here. The others go to the core as the user wrote them, and the core checks
 * them.
 */
import { member, type Membership, roleOf } from '../bus/membership.js'
import type { Access, Description } from '../bus/options.js'
import type { Overflow, Rung } from '../bus/service.js'
import { anything, check, coreJson, integer, notHere, oneOf, type Rules, signal } from '../check.js'
import { invalid } from '../invalid.js'
import type { CodecOption } from '../codec/index.js'
import { type InputSchema, NOT_OF_CALLS, type Schema, schemaId, standardSchema } from '../codec/schema.js'
import type { ReconnectOptions } from '../wait/backoff.js'
import { checkWait, type WaitOption } from '../wait/policy.js'
import type { AckMode, AckPolicy } from './reading/acks.js'
import type { Lifetime } from './reading/batch.js'

/**
 * Access to a topic. Subscribers of other users are *guests*: each has a control segment and a socket of its own, or
 * gets a stream.
 */
export interface TopicAccess extends Access {
  /** How many guests at a time, 1 to 64, 16 by default. */
  maxGuests?: number | undefined
  /** Milliseconds that a guest may leave no room for the same message before it is evicted; 1000 by default. */
  evictAfter?: number | undefined
}

/** How a topic keeps and sends its messages, and who may read them. `T`: what `send` takes. `C`: what the codec takes. */
export interface PublisherOptions<T = Uint8Array, C = T> extends Description {
  /**
   * Bytes of the ring: a power of two from 4 KiB to 1 GiB, 1 MiB by default. The largest message in one piece is just
   * under half of it.
   */
  capacity?: number | undefined
  /** What happens to a message that finds the ring full; `'block'` by default. */
  overflow?: Overflow | undefined
  /** Slots for subscribers, 1 to 1024, 64 by default. */
  maxSubscribers?: number | undefined
  /** Milliseconds that a subscriber may stall a `block` topic before it is evicted; by default without a limit. */
  evictAfter?: number | undefined
  /**
   * Reads the clock for every message of `send`. By default, a publisher that sends more than 1,024 messages within a tick
   * of the kernel (4 ms on most systems) reads it for every eighth of them, and the others have that time. Batches and
   * messages in pieces always have their exact time.
   */
  exactTime?: boolean | undefined
  /** How values become bytes, `'bytes'` by default. Its id is in the record. */
  codec?: CodecOption<C> | undefined
  /** The schema of messages: any Standard Schema that answers at once. It checks what `send` and `write` get, which is sent as given. */
  schema?: InputSchema<T> | undefined
  /** How `ready()` waits, `'adaptive'` by default. */
  wait?: WaitOption | undefined
  /**
   * Lets processes of the same user copy our descriptors under Yama (`prctl(PR_SET_PTRACER, ANY)`). Attaching is
   * faster, but Yama protects the process less.
   */
  allowDirect?: boolean | undefined
  /** The rungs that it offers; by default all that work. */
  offers?: Rung[] | undefined
  /**
   * The member of a service group that publishes. While it is not primary, nothing is sent: the calls fail with
   * `ERR_RINGBELL_NOT_PRIMARY`. The record says whether it is, for subscribers with `route: 'primary'`.
   */
  member?: Membership | undefined
  /** Let other users subscribe; by default only root may. */
  access?: TopicAccess | undefined
}

/** Where to begin to read, how to wait, and when a message counts as read. `T`: the values of messages. `C`: what the codec returns. */
export interface SubscriberOptions<T = Uint8Array, C = T> {
  /** `'latest'` (default): only messages that are sent from now on. `'earliest'`: first those that the ring still holds. */
  from?: 'latest' | 'earliest' | undefined
  /**
   * `'all'` (default): every publisher of the topic. `'primary'`: of a service group, the primary: what it has sent to its end, and then
   * what the next one sends. The subscriber is attached to all members, so that it misses nothing when another one becomes primary.
   */
  route?: 'all' | 'primary' | undefined
  /**
   * The expected codec. The subscriber does not attach to a publisher with another one (`'failed'`). Without this
   * option, messages of all codecs come as bytes.
   */
  codec?: CodecOption<C> | undefined
  /**
   * The expected id of the schema, as `bus.publisher` was given it. The subscriber does not attach to a publisher with another
   * one, or with none (`'failed'`).
   */
  schemaId?: string | undefined
  /** The schema of messages: any Standard Schema that answers at once. `message.value` is what it returns. */
  schema?: Schema<T> | undefined
  /** How to wait for messages, `'adaptive'` by default. */
  wait?: WaitOption | undefined
  /** Forces a rung of the acquisition ladder. */
  acquire?: Rung | 'auto' | undefined
  /**
   * The largest message in bytes that is accepted in pieces, 64 MiB by default, at most 1 GiB. Larger ones are missed
   * (`'missed'`). A limit is needed because the memory is reserved as soon as a publisher announces the size. Messages
   * in one piece have no limit.
   */
  maxMessage?: number | undefined
  /**
   * When a message counts as done, and gives its room back. `'immediate'` (default): when it is copied out of the ring.
   * `'batch'`: when the next one is asked for; many are acknowledged at a time. `'deferred'`: by `ack()`. The last two
   * are only for `block` topics; the subscriber does not attach to others (`'failed'`).
   */
  ack?: AckMode | undefined
  /** With `ack: 'batch'`: messages that are acknowledged at once, 8 to 256, 32 by default. */
  ackBatch?: number | undefined
  /** With `ack: 'batch'`: milliseconds that an acknowledgement may wait, 1 to 50, 5 by default. */
  ackInterval?: number | undefined
  /**
   * A name under which each publisher keeps the position of this subscriber, as long as the publisher lives. A later
   * subscriber of that name continues after the last acknowledged message, and ignores `from`. Only one subscriber at a
   * time may have the name; `block` topics only.
   */
  durable?: string | undefined
  /** The `id` of the one instance that it reads. By default it reads every publisher of that name. */
  instance?: string | undefined
  /** How to try again when the connection of a stream fails although its publisher lives. */
  reconnect?: ReconnectOptions | undefined
}

const ENDPOINT: Rules = { codec: anything, schema: standardSchema, schemaId, wait: checkWait, ...NOT_OF_CALLS }
const BATCHES: Rules = { signal, lifetime: oneOf('owned', 'borrowed', 'lease') }
const ATTACHED: Rules = { signal, count: integer(1, 2 ** 20) }
const READY: Rules = { signal, bytes: integer(0, 2 ** 30) }
/** Headers are checked when they are written. */
const SEND: Rules = { headers: anything }
const WRITE: Rules = { ...SEND, signal }
const PUBLISHER: Rules = {
  ...ENDPOINT,
  member,
  // The core has an option of that name.
  group: notHere('it is what a member says of itself: use member'),
}

export function publisherJson(options: PublisherOptions<unknown>, codecId: string): string {
  return coreJson(options, PUBLISHER, ({ schemaId: schema, member }) => ({
    codec: codecId,
    schema,
    group: roleOf(member),
  }))
}

export function subscriberJson(options: SubscriberOptions<unknown>, codecId: string | undefined): string {
  const json = coreJson(options, ENDPOINT, ({ schemaId: schema }) => ({ codec: codecId, schema }))
  for (const name of ['ackBatch', 'ackInterval'] as const)
    if (options[name] !== undefined && options.ack !== 'batch') throw invalid(name, options[name], "needs ack: 'batch'")
  return json
}

/** The policy of acknowledging, from options that the core has accepted. */
export function ackPolicy({ ack, ackBatch, ackInterval }: SubscriberOptions<unknown>): AckPolicy | undefined {
  if (ack === undefined || ack === 'immediate') return undefined
  return { mode: ack, batch: ackBatch ?? 32, interval: ackInterval ?? 5 }
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

export function checkSend(options: object): void {
  check(options, SEND)
}

export function checkWrite(options: object): void {
  check(options, WRITE)
}
