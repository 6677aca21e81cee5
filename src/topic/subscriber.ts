/**
 * A subscriber: the merged messages of every publisher of a topic, or of all topics that a pattern names; publishers that
 * come and go are followed without code. This file is what users hold; reading lives in inflow/, iteration.ts,
 * listening.ts, waiting in reception.ts. Events tell what happens besides messages; messages are never events.
 */
import { EventEmitter } from 'node:events'
import type { Readable, ReadableOptions } from 'node:stream'
import { throwIfAborted, type SignalOptions, checkSignal } from '../wait/abort.js'
import { Acks, type AckPolicy } from './reading/acks.js'
import { Attaching } from './attaching.js'
import { Batch, type Lifetime } from './reading/batch.js'
import { invalid } from '../check.js'
import type { Codec } from '../codec/index.js'
import { channels } from '../diagnostics.js'
import { closedError, fromNative, translated } from '../errors.js'
import { BorrowedInflow } from './reading/borrowed.js'
import type { Supply } from './reading/reader-context.js'
import type { Inflow } from '../wait/reader.js'
import { LeaseInflow } from './reading/lease.js'
import { Lending } from './reading/loans.js'
import { LentBatches } from './reading/borrowed-batches.js'
import { OwnedBatches, OwnedInflow } from './reading/owned.js'
import { Iteration } from '../wait/iteration.js'
import { Listener, type Listening } from './reading/listening.js'
import { Message } from './reading/message.js'
import type { NativeSubscriber } from '../native.js'
import { readable } from './node-streams.js'
import { Notices, type SubscriberEvents } from './notices.js'
import { once } from '../wait/once.js'
import { checkAttached, checkLifetime } from './options.js'
import { poller, type Poller } from '../wait/poller.js'
import { Reception } from './reading/reader-gate.js'
import { Sources, type AttachedPublisher } from './sources.js'
import type { SubscriberStats } from './stats.js'
import { Turn } from '../wait/time-slice.js'
import { WaitPolicy, type WaitOption } from '../wait/policy.js'

export interface BatchesOptions extends SignalOptions {
  /** Whose memory the batches lie in, `'owned'` by default. */
  lifetime?: Lifetime | undefined
}

export interface AttachedOptions extends SignalOptions {
  /** Publishers to wait for, 1 by default. */
  count?: number | undefined
}

/** @internal What a bus makes a subscriber of. */
export interface SubscriberParts {
  native: NativeSubscriber
  pattern: string
  codec: Codec<unknown>
  wait: WaitOption | undefined
  /** Not with `ack: 'immediate'`. */
  acks?: AckPolicy | undefined
  /** Who has the name and is no topic, in words. */
  readonly strangers: () => string | undefined
  readonly closed: (subscriber: Subscriber<unknown>) => void
}

export class Subscriber<T = Uint8Array>
  extends EventEmitter<SubscriberEvents>
  implements AsyncIterable<Message<T>>, AsyncDisposable
{
  /** The name or pattern that it was opened with. */
  readonly pattern: string
  readonly #native: NativeSubscriber
  readonly #poller: Poller
  readonly #id: number
  readonly #reception: Reception
  readonly #sources = new Sources()
  readonly #notices: Notices
  readonly #attaching: Attaching
  readonly #lending = new Lending()
  readonly #acks: Acks | undefined
  readonly #owned: OwnedInflow<T>
  readonly #borrowed: () => BorrowedInflow<T>
  readonly #lease: () => LeaseInflow<T>
  readonly #onClose: SubscriberParts['closed']
  /** Of `receive()`, called in a loop. */
  readonly #turn = new Turn()
  /** What went wrong while nobody read; the next reader is told. */
  #error: unknown = undefined

  /** @internal Use `bus.subscriber()`. */
  constructor(parts: SubscriberParts) {
    super()
    const { native, codec } = parts
    const hot = native.hot()
    this.pattern = parts.pattern
    this.#native = native
    this.#onClose = parts.closed
    this.#poller = poller()
    const acks = parts.acks === undefined ? undefined : new Acks(hot.ack, parts.acks)
    this.#acks = acks
    const waited = acks === undefined ? hot : acks.beforeSleep(hot)
    this.#reception = new Reception(waited, new WaitPolicy(parts.wait), this.#poller)
    this.#attaching = new Attaching(() => this.#sources.size, this.#poller, parts.strangers)
    this.#notices = new Notices(native, this.#sources, {
      emitter: this,
      holding: () => this.#owned.holding,
      look: () => this.#look(),
      joined: () => this.#attaching.check(),
    })
    const supply: Supply = {
      native,
      hot,
      sources: this.#sources,
      board: this.#notices,
      codec,
      lending: this.#lending,
      acks,
    }
    this.#owned = new OwnedInflow<T>(supply)
    this.#borrowed = lazily(() => new BorrowedInflow<T>(supply))
    this.#lease = lazily(() => new LeaseInflow<T>(supply))
    this.#id = translated(() => this.#poller.add(native, { wake: () => this.#wake() }))
    if (channels.subscriber.opened.hasSubscribers) channels.subscriber.opened.publish({ subscriber: this })
  }

  /** The publishers that it reads from right now. */
  get publishers(): AttachedPublisher[] {
    return this.#sources.publishers()
  }

  get closed(): boolean {
    return this.#reception.closed
  }

  /**
   * `for await (const message of subscriber)`: owned messages, for ever; `close()` ends it. Timers and sockets get their turn.
   *
   * @throws {RingbellError} `ERR_RINGBELL_BUSY` while there is another iteration or listener, `ERR_RINGBELL_CLOSED`.
   */
  [Symbol.asyncIterator](): AsyncIterableIterator<Message<T>, undefined> {
    return this.messages()
  }

  /** The same with a signal: when it fires, the iteration rejects with an `AbortError`. */
  messages(options: SignalOptions = {}): AsyncIterableIterator<Message<T>, undefined> {
    checkSignal(options)
    this.#assertReadable()
    return new Iteration(this.#owned, this.#reception, options.signal)
  }

  /**
   * The same a drain at a time: up to about a thousand messages of one publisher. Borrowed and leased batches are given back
   * by the next turn of the loop, at the latest.
   *
   * @throws {RingbellError} `ERR_RINGBELL_BUSY`, `ERR_RINGBELL_CLOSED`; `ERR_RINGBELL_INVALID_OPTION` (from the iteration) for a
   * lease on a topic that has `evictAfter`, is not `block`, or belongs to another uid.
   */
  batches(options: BatchesOptions = {}): AsyncIterableIterator<Batch<T>, undefined> {
    checkLifetime(options)
    this.#assertReadable()
    return new Iteration(this.#batches(options.lifetime), this.#reception, options.signal)
  }

  /**
   * The next message if there is one, at once.
   *
   * @throws {RingbellError} `ERR_RINGBELL_CLOSED`; `ERR_RINGBELL_BUSY` while somebody waits for messages, or a borrowed or
   * leased batch is out.
   */
  tryReceive(): Message<T> | undefined {
    this.#assertIdle()
    const inflow = this.#owned
    return this.#refill(inflow) ? inflow.take() : undefined
  }

  /** What is there, as a batch, at once. A borrowed or leased one must be released before anything else is received. */
  tryReceiveBatch(options: { lifetime?: Lifetime | undefined } = {}): Batch<T> | undefined {
    checkLifetime(options)
    this.#assertIdle()
    const inflow = this.#batches(options.lifetime)
    return this.#refill(inflow) ? inflow.take() : undefined
  }

  /**
   * The next message.
   *
   * Rejects with `ERR_RINGBELL_CLOSED` when the subscriber is closed, before or meanwhile; with `ERR_RINGBELL_BUSY` while
   * somebody else waits; with an `AbortError` when the signal fires.
   */
  async receive(options: SignalOptions = {}): Promise<Message<T>> {
    checkSignal(options)
    throwIfAborted(options.signal)
    this.#assertIdle()
    const inflow = this.#owned
    const turn = this.#turn
    if (!turn.due() && (this.#refill(inflow) || (this.#reception.glance() && this.#refill(inflow))))
      return inflow.take()
    return once(inflow, this.#reception, turn, options.signal)
  }

  /**
   * Calls `deliver` for every message, from the next turn of the event loop on. Keeps the process alive until stopped, unless
   * the subscriber is `unref`ed. The signal does what `stop()` does: `finished` resolves. Only one that has fired before
   * this is called is an error, an `AbortError`.
   *
   * @throws {RingbellError} `ERR_RINGBELL_BUSY`, `ERR_RINGBELL_CLOSED`; `ERR_RINGBELL_INVALID_OPTION` when `deliver` is no function.
   */
  listen(deliver: (message: Message<T>) => void, options: SignalOptions = {}): Listening {
    checkSignal(options)
    if (typeof deliver !== 'function') throw invalid('deliver', deliver, 'must be a function')
    this.#assertReadable()
    return new Listener(this.#owned, this.#reception, deliver, options.signal)
  }

  /**
   * Resolves when at least `count` publishers are attached, at once if they are; rejects with `ERR_RINGBELL_CLOSED`, or an
   * `AbortError`, whose message says so when the name is announced by what is no topic. Waiting keeps the process alive, unless the subscriber is `unref`ed.
   */
  async attached(options: AttachedOptions = {}): Promise<AttachedPublisher[]> {
    checkAttached(options)
    const { count = 1, signal } = options
    throwIfAborted(signal)
    this.#reception.assertOpen()
    this.#look()
    this.#assertSound()
    if (this.#sources.size < count) await this.#attaching.wait(count, signal)
    return this.publishers
  }

  /**
   * A Node stream of the messages: their bytes (empty messages are left out), or with `objectMode` the messages themselves. It
   * begins to iterate with its first read, and what `messages()` would throw then destroys it. Destroying it leaves the subscriber open.
   */
  readable(options: Pick<ReadableOptions, 'objectMode' | 'highWaterMark' | 'signal'> = {}): Readable {
    return readable(this, options)
  }

  /**
   * Acknowledges all messages of a publisher up to this one, or up to the last one of a batch: their room may be used again, and
   * the next holder of the durable name begins behind them. A number is a sequence; with several publishers it needs the id of its
   * own. `false` when as much was acknowledged before, or the publisher has ended. For `ack: 'deferred'`; with
   * `'batch'` it does not wait for the others.
   *
   * @throws {RingbellError} `ERR_RINGBELL_INVALID_OPTION` with `ack: 'immediate'`, and for what was not received yet;
   * `ERR_RINGBELL_CLOSED`; `ERR_RINGBELL_RELEASED` for a batch that was given back: acknowledge first, or keep its last sequence.
   */
  ack(upTo: Message<T> | Batch<T> | number, publisher?: string): boolean {
    this.#reception.assertOpen()
    const acks = this.#acks
    if (acks === undefined) throw invalid('ack', 'immediate', "must be 'deferred' or 'batch' where ack() is called")
    const { id, sequence } = placeOf(upTo, publisher)
    if (id === undefined && this.#sources.size > 1)
      throw invalid('publisher', id, `must say which of ${this.#sources.size} publishers sequence ${sequence} is of`)
    const source = this.#sources.find(id)
    return source !== undefined && translated(() => acks.upTo(source, sequence))
  }

  /**
   * Counters of this subscriber and of each publisher that it reads from.
   *
   * @throws {RingbellError} `ERR_RINGBELL_CLOSED`.
   */
  stats(): SubscriberStats {
    return JSON.parse(translated(() => this.#native.stats())) as SubscriberStats
  }

  /** Waiting keeps the process alive (the default). */
  ref(): this {
    return this.#reference(true)
  }

  /** Waiting does not keep the process alive. It sleeps, then, whatever the option `wait` says: who looks keeps a loop alive. */
  unref(): this {
    return this.#reference(false)
  }

  /**
   * Leaves every publisher; durable positions are kept. Iterations end, `receive()` rejects, leased views are detached; idempotent.
   * With `ack: 'batch'`, what the last reader still had in hand is not acknowledged.
   */
  async close(): Promise<void> {
    this.closeNow()
  }

  /**
   * Closes it, and gives its durable positions up: the publishers that it is attached to keep nothing under its name any more.
   * Nothing but `close()` without a durable name, or when it is closed.
   */
  async forget(): Promise<void> {
    this.closeNow(true)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.closeNow()
  }

  /** @internal */
  closeNow(forget = false): void {
    if (this.#reception.closed) return
    try {
      this.#reception.close()
      this.#lending.batch?.release()
      this.#acks?.close()
      this.#owned.clear()
      this.#notices.clear()
      this.#attaching.fail(closedError('subscriber'))
      this.#poller.remove(this.#id)
    } finally {
      this.#onClose(this)
      translated(() => (forget ? this.#native.forget() : this.#native.close()))
    }
    if (channels.subscriber.closed.hasSubscribers) channels.subscriber.closed.publish({ subscriber: this })
  }

  #wake(): void {
    if (!this.#reception.closed && !this.#reception.wake()) this.#look()
  }

  /** Nobody reads: takes in what the core has to tell, and no message. A leased batch would be given back by that. */
  #look(): void {
    if (this.#reception.closed) return
    try {
      if (this.#lending.batch !== undefined) this.#notices.postpone()
      else if (this.#owned.peek()) this.#notices.take()
    } catch (error) {
      this.#error ??= fromNative(error)
      this.#attaching.fail(this.#error)
    }
  }

  #batches(lifetime: Lifetime = 'owned'): Inflow<Batch<T>> {
    if (lifetime === 'owned') return new OwnedBatches(this.#owned)
    return new LentBatches(this.#owned, lifetime === 'borrowed' ? this.#borrowed() : this.#lease(), this.#lending)
  }

  #refill(inflow: Inflow<unknown>): boolean {
    try {
      return inflow.refill()
    } catch (error) {
      throw fromNative(error)
    }
  }

  #reference(referenced: boolean): this {
    this.#reception.referenced = referenced
    this.#attaching.referenced = referenced
    return this
  }

  #assertIdle(): void {
    this.#reception.assertFree()
    this.#assertReadable()
  }

  #assertReadable(): void {
    this.#lending.assertNothingLent()
    this.#assertSound()
  }

  #assertSound(): void {
    const error = this.#error
    if (error === undefined) return
    this.#error = undefined
    throw error
  }
}

/** Whose message it is, as far as that is said, and which. */
function placeOf(upTo: unknown, publisher: unknown): { id: string | undefined; sequence: number } {
  if (upTo instanceof Message) return { id: upTo.publisher, sequence: upTo.sequence }
  if (upTo instanceof Batch) return { id: upTo.publisher, sequence: upTo.sequence(upTo.length - 1) }
  if (!Number.isSafeInteger(upTo) || (upTo as number) < 0)
    throw invalid('upTo', upTo, 'must be a message, a batch, or the sequence of a message')
  if (publisher !== undefined && typeof publisher !== 'string')
    throw invalid('publisher', publisher, "must be the id of a publisher's instance")
  return { id: publisher, sequence: upTo as number }
}

function lazily<V>(make: () => V): () => V {
  let made: V | undefined
  return () => (made ??= make())
}
