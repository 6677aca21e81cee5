/**
 * The options of publishers and subscribers. What only TypeScript knows (codec, wait, signals, how many acknowledgements go
 * together) is checked here; everything else goes to the core as the user wrote it, and the core checks it.
 */
import type { Access, Description } from '../bus/options.js'
import type { Overflow, Rung } from '../bus/service.js'
import { anything, check, coreJson, integer, invalid, oneOf, type Rules, signal } from '../check.js'
import type { CodecOption } from '../codec/index.js'
import type { ReconnectOptions } from '../wait/backoff.js'
import { checkWait, type WaitOption } from '../wait/policy.js'
import type { AckMode, AckPolicy } from './reading/acks.js'
import type { Lifetime } from './reading/batch.js'

/** Access to a topic: subscribers of other users are *guests*, each with a control segment and a socket of its own, or streamed to. */
export interface TopicAccess extends Access {
  /** How many guests at a time, 1 to 64, 16 by default. */
  maxGuests?: number | undefined
  /** Milliseconds that a guest may leave no room for one and the same message before it is evicted; 1000 by default. */
  evictAfter?: number | undefined
}

/** How a topic keeps and sends its messages, and who may read them. */
export interface PublisherOptions<T = Uint8Array> extends Description {
  /** Bytes of the ring: a power of two from 4 KiB to 1 GiB, 1 MiB by default. The largest message that goes at once is just under half of it. */
  capacity?: number | undefined
  /** What happens to a message that finds the ring full; `'block'` by default. */
  overflow?: Overflow | undefined
  /** Slots, 1 to 1024, 64 by default. */
  maxSubscribers?: number | undefined
  /** Milliseconds that a subscriber may stall a `block` topic before it is evicted; by default for ever. */
  evictAfter?: number | undefined
  /** How values become bytes, `'bytes'` by default; its id stands in the record. */
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

/** From where to read, how to wait, and when a message counts as read. */
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
   * A name under which each publisher keeps this subscriber's place for as long as it lives. A subscriber that comes back under it goes on
   * behind the last acknowledged message, whatever `from` says. One holder at a time; `block` topics only.
   */
  durable?: string | undefined
  /** What to do when the connection of a stream fails though its publisher lives. */
  reconnect?: ReconnectOptions | undefined
}

const ENDPOINT: Rules = { codec: anything, wait: checkWait }
const BATCHES: Rules = { signal, lifetime: oneOf('owned', 'borrowed', 'lease') }
const ATTACHED: Rules = { signal, count: integer(1, 2 ** 20) }
const READY: Rules = { signal, bytes: integer(0, 2 ** 30) }
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

export function checkLifetime(options: { lifetime?: Lifetime | undefined }): void {
  check(options, BATCHES)
}

export function checkAttached(options: object): void {
  check(options, ATTACHED)
}

export function checkReady(options: object): void {
  check(options, READY)
}
