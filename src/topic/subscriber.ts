/**
 * A subscriber: it merges the messages of all publishers of a topic, or of all topics that match a pattern. It follows
 * publishers as they come and go. Users hold this object; reading is in reading/ and wait/iteration.ts, waiting in
 * reading/reader-gate.ts. Events report what happens besides messages; a message is never an event.
 */
import type { Readable, ReadableOptions } from 'node:stream'
import { invalid } from '../invalid.js'
import type { PayloadCodec } from '../codec/payload-codec.js'
import { inSteps } from '../closing.js'
import { channels } from '../diagnostics.js'
import { closedError, fromNative, translated } from '../errors.js'
import type { NativeSubscriber } from '../native.js'
import { membersOf, shown, type ShownOptions } from '../shown.js'
import { checkSignal, type SignalOptions, throwIfAborted } from '../wait/abort.js'
import type { AsyncIteration } from '../wait/async-iteration.js'
import { Emitter } from '../wait/emitter.js'
import { Iteration } from '../wait/iteration.js'
import { once } from '../wait/once.js'
import { type WaitOption, WaitPolicy } from '../wait/policy.js'
import { poller, type Poller } from '../wait/poller.js'
import type { MessageSource } from '../wait/reader.js'
import { TimeSlice } from '../wait/time-slice.js'
import { Attaching } from './attaching.js'
import { readable } from './node-streams.js'
import { Notices, type SubscriberEvents } from './notices.js'
import { checkAttached, checkLifetime } from './options.js'
import { type AckPolicy, Acks } from './reading/acks.js'
import { Batch, type Lifetime } from './reading/batch.js'
import { BorrowedBatches } from './reading/borrowed-batches.js'
import { BorrowedSource } from './reading/borrowed.js'
import { LeaseSource } from './reading/lease.js'
import { Listener, type Listening } from './reading/listening.js'
import { Loans } from './reading/loans.js'
import { Message } from './reading/message.js'
import { OwnedBatches, OwnedSource } from './reading/owned.js'
import type { ReaderContext } from './reading/reader-context.js'
import { ReaderGate } from './reading/reader-gate.js'
import { type AttachedPublisher, Sources } from './sources.js'
import type { SubscriberStats } from './stats.js'

/** How to read batches. */
export interface BatchesOptions extends SignalOptions {
  /** The memory of the batches, `'owned'` by default. */
  lifetime?: Lifetime | undefined
}

/** How many publishers to wait for. */
export interface AttachedOptions extends SignalOptions {
  /** Publishers to wait for, 1 by default. */
  count?: number | undefined
}

/** @internal What a bus passes to the constructor. */
export interface SubscriberParts {
  native: NativeSubscriber
  pattern: string
  payloads: PayloadCodec
  wait: WaitOption | undefined
  /** Absent with `ack: 'immediate'`. */
  acks?: AckPolicy | undefined
  /** Which service has the name and is not a topic, in words. */
  readonly mismatch: () => string | undefined
  readonly closed: (subscriber: Subscriber<unknown>) => void
}

/** Reads the merged messages of every publisher of a topic; `bus.subscriber()` makes it. */
export class Subscriber<T = Uint8Array>
  extends Emitter<SubscriberEvents>
  implements AsyncIterable<Message<T>>, AsyncDisposable
{
  /** The name or pattern that it was opened with. */
  readonly pattern: string
  readonly #native: NativeSubscriber
  readonly #poller: Poller
  readonly #id: number
  readonly #gate: ReaderGate
  readonly #sources = new Sources()
  readonly #notices: Notices
  readonly #attaching: Attaching
  readonly #loans = new Loans()
  readonly #acks: Acks | undefined
  readonly #owned: OwnedSource<T>
  readonly #borrowed: () => BorrowedSource<T>
  readonly #lease: () => LeaseSource<T>
  readonly #onClose: SubscriberParts['closed']
  /** For `receive()` in a loop. */
  readonly #timeSlice = new TimeSlice()
  /** An error that came while nothing was read. The next read throws it. */
  #error: unknown = undefined

  /** @internal Use `bus.subscriber()`. */
  constructor(parts: SubscriberParts) {
    super()
    const { native, payloads } = parts
    const hot = native.hot()
    this.pattern = parts.pattern
    this.#native = native
    this.#onClose = parts.closed
    this.#poller = poller()
    const acks = parts.acks === undefined ? undefined : new Acks(hot.ack, parts.acks, (error) => this.#failed(error))
    this.#acks = acks
    const waited = acks === undefined ? hot : acks.beforeSleep(hot)
    const why = (): string | undefined =>
      this.#notices.lastFailure?.message ?? (this.#sources.size > 0 ? undefined : parts.mismatch())
    const whyNothing = (): string | undefined => (this.#sources.size > 0 ? undefined : why())
    this.#gate = new ReaderGate(waited, new WaitPolicy(parts.wait), this.#poller, whyNothing)
    this.#attaching = new Attaching((count) => this.#sources.size >= count, this.#poller, why)
    this.#notices = new Notices(native, this.#sources, {
      emitter: this,
      holding: () => this.#owned.holding,
      ask: () => this.#takeNotices(),
      joined: () => this.#attaching.check(),
    })
    const context: ReaderContext = {
      native,
      hot,
      sources: this.#sources,
      notices: this.#notices,
      payloads,
      loans: this.#loans,
      acks,
    }
    this.#owned = new OwnedSource<T>(context)
    this.#borrowed = lazily(() => new BorrowedSource<T>(context))
    this.#lease = lazily(() => new LeaseSource<T>(context))
    this.#id = this.#poller.add(native, { wake: () => this.#wake() })
    if (channels.subscriber.opened.hasSubscribers) channels.subscriber.opened.publish({ subscriber: this })
  }

  /** The publishers that it reads from right now. */
  get publishers(): AttachedPublisher[] {
    return this.#sources.publishers()
  }

  /** Whether it is closed. */
  get closed(): boolean {
    return this.#gate.closed
  }

  /**
   * `for await (const message of subscriber)`: owned messages, until `close()` ends it. Timers and sockets are served
   * in between.
   *
   * @throws {RingbellError} `ERR_RINGBELL_BUSY` while there is another iteration or listener, `ERR_RINGBELL_CLOSED`.
   */
  [Symbol.asyncIterator](): AsyncIteration<Message<T>> {
    return this.messages()
  }

  /** The same with a signal: when it fires, the iteration rejects with an `AbortError`. */
  messages(options: SignalOptions = {}): AsyncIteration<Message<T>> {
    checkSignal(options)
    this.#assertReadable()
    return new Iteration(this.#owned, this.#gate, options.signal)
  }

  /**
   * The same in batches, one for each drain: up to about a thousand messages of one publisher. A borrowed or leased
   * batch is given back by the next step of the loop, at the latest.
   *
   * @throws {RingbellError} `ERR_RINGBELL_BUSY`, `ERR_RINGBELL_CLOSED`; `ERR_RINGBELL_INVALID_OPTION` (from the
   * iteration) for a lease on a topic that has `evictAfter`, is not `block`, or belongs to another user.
   */
  batches(options: BatchesOptions = {}): AsyncIteration<Batch<T>> {
    checkLifetime(options)
    this.#assertReadable()
    return new Iteration(this.#batches(options.lifetime), this.#gate, options.signal)
  }

  /**
   * The next message if there is one, at once.
   *
   * @throws {RingbellError} `ERR_RINGBELL_CLOSED`; `ERR_RINGBELL_BUSY` while a call waits for messages, or a borrowed
   * or leased batch is not given back.
   */
  tryReceive(): Message<T> | undefined {
    this.#assertIdle()
    const messages = this.#owned
    return this.#refill(messages) ? messages.take() : undefined
  }

  /**
   * The messages that are there, as a batch, at once. A borrowed or leased batch must be released before anything else
   * is received.
   */
  tryReceiveBatch(options: { lifetime?: Lifetime | undefined } = {}): Batch<T> | undefined {
    checkLifetime(options)
    this.#assertIdle()
    const messages = this.#batches(options.lifetime)
    return this.#refill(messages) ? messages.take() : undefined
  }

  /**
   * The next message.
   *
   * Rejects with `ERR_RINGBELL_CLOSED` when the subscriber is closed, before or meanwhile; with `ERR_RINGBELL_BUSY`
   * while another call waits; with an `AbortError` when the signal fires.
   */
  async receive(options: SignalOptions = {}): Promise<Message<T>> {
    checkSignal(options)
    throwIfAborted(options.signal)
    this.#assertIdle()
    const messages = this.#owned
    const timeSlice = this.#timeSlice
    if (!timeSlice.due() && this.#refill(messages, this.#gate.glance)) return messages.take()
    return once(messages, this.#gate, timeSlice, options.signal)
  }

  /**
   * Calls `deliver` for every message, from the next turn of the event loop on. If it throws, or a promise that it
   * returns rejects, the listening ends, and `finished` rejects with that error. It does not wait for promises. It keeps the process alive until it is
   * stopped, unless the subscriber is `unref`ed. The signal does what `stop()` does: `finished` resolves. If the signal
   * has fired before the call, this throws an `AbortError`.
   *
   * @throws {RingbellError} `ERR_RINGBELL_BUSY`, `ERR_RINGBELL_CLOSED`; `ERR_RINGBELL_INVALID_OPTION` when `deliver` is
   * not a function.
   */
  listen(deliver: (message: Message<T>) => unknown, options: SignalOptions = {}): Listening {
    checkSignal(options)
    if (typeof deliver !== 'function') throw invalid('deliver', deliver, 'must be a function')
    this.#assertReadable()
    return new Listener(this.#owned, this.#gate, deliver, options.signal)
  }

  /**
   * Resolves when at least `count` publishers are attached. Rejects with `ERR_RINGBELL_CLOSED` or an `AbortError`. If
   * the name is announced as another kind than a topic, the message of the `AbortError` says so. Waiting keeps the
   * process alive, unless the subscriber is `unref`ed.
   */
  async attached(options: AttachedOptions = {}): Promise<AttachedPublisher[]> {
    checkAttached(options)
    const { count = 1, signal } = options
    throwIfAborted(signal)
    this.#gate.assertOpen()
    this.#takeNotices()
    this.#assertSound()
    if (this.#sources.size < count) await this.#attaching.wait(count, signal)
    return this.publishers
  }

  /**
   * A Node stream of the messages: their bytes (empty messages are left out), or with `objectMode` the messages
   * themselves. The first read begins the iteration; an error that `messages()` throws then destroys the stream.
   * Destroying the stream leaves the subscriber open.
   */
  readable(options: Pick<ReadableOptions, 'objectMode' | 'highWaterMark' | 'signal'> = {}): Readable {
    return readable(this, options)
  }

  /**
   * Acknowledges all messages of a publisher up to this one, or up to the last one of a batch. Then their room may be
   * used again, and the next subscriber with the durable name begins after them. A number is a sequence; with several
   * publishers it needs the id of its publisher. `false`: as much was acknowledged before, or the publisher has ended.
   * It is for `ack: 'deferred'`; with `'batch'` it acknowledges at once.
   *
   * @throws {RingbellError} `ERR_RINGBELL_INVALID_OPTION` with `ack: 'immediate'`, and for a message that was not
   * received yet; `ERR_RINGBELL_CLOSED`; `ERR_RINGBELL_RELEASED` for a batch that was given back: acknowledge first, or
   * keep its last sequence.
   */
  ack(upTo: Message<T> | Batch<T> | number, publisher?: string): boolean {
    this.#gate.assertOpen()
    const acks = this.#acks
    if (acks === undefined) throw invalid('ack', 'immediate', "must be 'deferred' or 'batch' where ack() is called")
    const { id, sequence } = positionOf(upTo, publisher)
    if (id === undefined && this.#sources.size > 1)
      throw invalid(
        'publisher',
        id,
        `must name the publisher of sequence ${sequence}, because there are ${this.#sources.size} publishers`,
      )
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

  /**
   * Waiting does not keep the process alive. It then sleeps whenever it waits, even if the option `wait` says
   * otherwise, because spinning would keep the event loop alive.
   */
  unref(): this {
    return this.#reference(false)
  }

  /**
   * Leaves every publisher; durable positions are kept. Iterations end, `receive()` rejects, leased views are detached;
   * idempotent. With `ack: 'batch'`, messages that the last reader still has are not acknowledged.
   */
  async close(): Promise<void> {
    this.closeNow()
  }

  /**
   * Closes it and gives its durable positions up: the publishers that it is attached to keep nothing under its name any
   * more. Without a durable name it is the same as `close()`. After `close()` it does nothing.
   */
  async forget(): Promise<void> {
    this.closeNow(true)
  }

  /** `await using`: as `close()`. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.closeNow()
  }

  /** What `console.log` shows. */
  [Symbol.for('nodejs.util.inspect.custom')](depth: number | null, options: ShownOptions): string {
    return shown('Subscriber', membersOf(this, 'pattern', 'closed', 'publishers'), depth, options)
  }

  /** @internal */
  closeNow(forget = false): void {
    if (this.#gate.closed) return
    this.#onClose(this)
    inSteps(
      () => this.#gate.close(),
      () => this.#loans.batch?.release(),
      () => this.#acks?.close(),
      () => this.#owned.clear(),
      () => this.#notices.clear(),
      () => this.#attaching.fail(closedError('subscriber')),
      () => this.#poller.remove(this.#id),
      () => (forget ? this.#native.forget() : this.#native.close()),
      () => this.#publishClosed(),
    )
  }

  #publishClosed(): void {
    if (channels.subscriber.closed.hasSubscribers) channels.subscriber.closed.publish({ subscriber: this })
  }

  #wake(): void {
    if (!this.#gate.closed && !this.#gate.wake()) this.#takeNotices()
  }

  /**
   * Takes in the notices of the core while nothing is read, and no message. While a batch is lent out it does not ask
   * the core, because that would give a leased batch back.
   */
  #takeNotices(): void {
    if (this.#gate.closed) return
    try {
      if (this.#loans.batch !== undefined) this.#notices.postpone()
      // While notices wait, the core does not check the publishers. More of them may have ended, and no doorbell rings
      // for those again, so this repeats.
      else while (this.#owned.peek()) this.#notices.take()
    } catch (error) {
      this.#failed(error)
    }
  }

  /** The next read throws it, because nothing is being read now. */
  #failed(error: unknown): void {
    this.#error ??= fromNative(error)
    this.#attaching.fail(this.#error)
  }

  #batches(lifetime: Lifetime = 'owned'): MessageSource<Batch<T>> {
    if (lifetime === 'owned') return new OwnedBatches(this.#owned)
    const lent = translated(() => (lifetime === 'borrowed' ? this.#borrowed() : this.#lease()))
    return new BorrowedBatches(this.#owned, lent, this.#loans)
  }

  #refill(messages: MessageSource<unknown>, iterations = 0): boolean {
    try {
      return messages.refill(iterations)
    } catch (error) {
      throw fromNative(error)
    }
  }

  #reference(referenced: boolean): this {
    this.#gate.referenced = referenced
    this.#attaching.referenced = referenced
    return this
  }

  #assertIdle(): void {
    this.#gate.assertFree()
    this.#assertReadable()
  }

  #assertReadable(): void {
    this.#loans.assertNothingLent()
    this.#assertSound()
  }

  #assertSound(): void {
    const error = this.#error
    if (error === undefined) return
    this.#error = undefined
    throw error
  }
}

/** The sequence of the message, and the id of its publisher if that is given. */
function positionOf(upTo: unknown, publisher: unknown): { id: string | undefined; sequence: number } {
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
