/**
 * The reader of a state with keys: a table that follows the writer, and watches of one key, a prefix, or all. One wait
 * (wait/waiter.ts) serves all watches, and is there only while one of them waits.
 */
import { withMismatch } from '../bus/kind-mismatch.js'
import { check } from '../check.js'
import { invalid } from '../invalid.js'
import type { PayloadCodec } from '../codec/payload-codec.js'
import { inSteps } from '../closing.js'
import { channels } from '../diagnostics.js'
import { type AbortError, closedError, fromNative, translated } from '../errors.js'
import type { NativeKeyedReader, NativeKeyedReaderHot } from '../native.js'
import { membersOf, shown, type ShownOptions } from '../shown.js'
import type { SubscriberStats } from '../topic/stats.js'
import { checkSignal, type SignalOptions, throwIfAborted } from '../wait/abort.js'
import type { AsyncIteration } from '../wait/async-iteration.js'
import { Condition } from '../wait/condition.js'
import { Emitter } from '../wait/emitter.js'
import { type WaitOption, WaitPolicy } from '../wait/policy.js'
import { poller, type Poller } from '../wait/poller.js'
import { type Awaited, Waiter } from '../wait/waiter.js'
import { Changes, type StateChange, type Watch } from './changes.js'
import { type AttachedWriter, StateNotices, type StateReaderEvents } from './notices.js'
import { checkKey, WATCH } from './options.js'

/** Which keys to watch. Without `key` and `prefix`: all. */
export interface WatchKeysOptions extends SignalOptions {
  /** This key alone. */
  key?: string | undefined
  /** Every key that begins with this. */
  prefix?: string | undefined
}

/** @internal What a bus passes to the constructor. */
export interface KeyedReaderParts {
  native: NativeKeyedReader
  name: string
  payloads: PayloadCodec
  wait: WaitOption | undefined
  /** Which service has the name and is not a state, in words. */
  readonly mismatch: () => string | undefined
  readonly closed: (reader: { closeNow(): void }) => void
}

/** Reads a state with keys; `bus.watchKeyedState()` makes it. */
export class KeyedStateReader<T = Uint8Array> extends Emitter<StateReaderEvents> implements AsyncDisposable {
  /** The name that it was opened with. */
  readonly name: string
  readonly #native: NativeKeyedReader
  readonly #hot: NativeKeyedReaderHot
  readonly #payloads: PayloadCodec
  readonly #notices: StateNotices
  readonly #poller: Poller
  readonly #id: number
  readonly #waiter: Waiter
  readonly #watches = new Set<Watch>()
  readonly #whole = new Condition(() => this.#closed || translated(() => this.#native.whole))
  readonly #onClose: KeyedReaderParts['closed']
  readonly #mismatch: KeyedReaderParts['mismatch']
  #wanted = 0
  #closed = false

  /** @internal Use `bus.watchKeyedState()`. */
  constructor(parts: KeyedReaderParts) {
    super()
    const { native } = parts
    this.name = parts.name
    this.#native = native
    this.#hot = native.hot()
    this.#payloads = parts.payloads
    this.#onClose = parts.closed
    this.#mismatch = parts.mismatch
    this.#notices = new StateNotices(this, () => translated(() => native.notices()))
    this.#poller = poller()
    this.#waiter = new Waiter(this.#awaited(), new WaitPolicy(parts.wait), this.#poller)
    this.#id = this.#poller.add(native, { wake: () => this.#wake() })
    if (channels.stateReader.opened.hasSubscribers) channels.stateReader.opened.publish({ stateReader: this })
  }

  /** The writers that are there right now: mostly one, or none. */
  get writers(): AttachedWriter[] {
    return this.#notices.writers
  }

  /** Whether it is closed. */
  get closed(): boolean {
    return this.#closed
  }

  /** Grows with each writer of the name: that of the writer that the table comes from. */
  get epoch(): number {
    const epoch = this.#closed ? '' : translated(() => this.#native.epoch)
    return Number(epoch)
  }

  /**
   * Resolves when the table of a writer was read as a whole. Before that, no key has a value. Rejects with
   * `ERR_RINGBELL_CLOSED` or an `AbortError`.
   */
  async ready(options: SignalOptions = {}): Promise<void> {
    this.#assertOpen()
    checkSignal(options)
    const { signal } = options
    throwIfAborted(signal)
    // First of all, so that an error of the first look is told.
    const whole = this.#whole.wait({ signal, explain: (error) => this.#explained(error) })
    this.#want(1)
    try {
      await whole
    } finally {
      this.#want(-1)
    }
    this.#assertOpen()
  }

  /**
   * The value of a key, at once; `undefined` if it has none. No system call while the writer's memory is shared.
   *
   * @throws {RingbellError} `ERR_RINGBELL_CODEC`, `ERR_RINGBELL_SCHEMA`, `ERR_RINGBELL_CLOSED`.
   */
  get(key: string): T | undefined {
    checkKey(key)
    const data = translated(() => this.#native.get(key))
    return data === null ? undefined : (this.#payloads.decodeMessage(data) as T)
  }

  /** The keys that begin with `prefix` (all without one) and have a value, in order. */
  keys(prefix = ''): string[] {
    if (typeof prefix !== 'string') throw invalid('prefix', prefix, 'must be a string')
    return JSON.parse(translated(() => this.#native.keys(prefix))) as string[]
  }

  /**
   * `for await (const { key, value } of reader.watch({ prefix }))`: first every key that has a value, then those that
   * change, each with its newest value, until `close()` ends it. There may be any number of watches.
   *
   * @throws {RingbellError} `ERR_RINGBELL_CLOSED`.
   */
  watch(options: WatchKeysOptions = {}): AsyncIteration<StateChange<T>> {
    check(options, WATCH)
    this.#assertOpen()
    const { key, prefix = '', signal } = options
    const concerns = key === undefined ? (one: string) => one.startsWith(prefix) : (one: string) => one === key
    const watch = new Changes<T>(
      { get: (one) => this.get(one), left: (one) => this.#left(one), explained: (error) => this.#explained(error) },
      concerns,
      signal,
    )
    // What changed before is told to the other watches. This one begins with what is there.
    this.#tell()
    this.#watches.add(watch)
    this.#want(1)
    watch.add(this.keys(prefix))
    return watch
  }

  /** Counters, and what the reader knows of its writers, in a topic's words. */
  stats(): SubscriberStats {
    return JSON.parse(translated(() => this.#native.stats())) as SubscriberStats
  }

  /** Watches keep the process alive (the default). */
  ref(): this {
    this.#waiter.referenced = true
    return this
  }

  /** Watches do not keep the process alive. */
  unref(): this {
    this.#waiter.referenced = false
    return this
  }

  /** Leaves the state. Watches end; idempotent. */
  async close(): Promise<void> {
    this.closeNow()
  }

  /** `await using`: as `close()`. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.closeNow()
  }

  /** What `console.log` shows. */
  [Symbol.for('nodejs.util.inspect.custom')](depth: number | null, options: ShownOptions): string {
    return shown('KeyedStateReader', membersOf(this, 'name', 'closed', 'writers'), depth, options)
  }

  /** @internal */
  closeNow(): void {
    if (this.#closed) return
    this.#closed = true
    this.#onClose(this)
    inSteps(
      () => this.#waiter.stop(),
      () => this.#whole.fail(closedError('state reader')),
      () => [...this.#watches].forEach((watch) => watch.end()),
      () => this.#notices.clear(),
      () => this.#poller.remove(this.#id),
      () => this.#native.close(),
      () => {
        if (channels.stateReader.closed.hasSubscribers) channels.stateReader.closed.publish({ stateReader: this })
      },
    )
  }

  #awaited(): Awaited {
    return {
      poll: (iterations) => {
        if (iterations > 0) this.#hot.spin(iterations)
        const found = this.#hot.poll()
        // A table without keys is whole without a change.
        this.#whole.check()
        return found
      },
      ready: () => {
        // After a failure nobody waits any more.
        if (this.#attempt(() => this.#tell())) this.#waitOn()
      },
      arm: () => this.#hot.arm(),
      failed: (error) => this.#fail(error),
    }
  }

  /** Hands on what the core has taken in. */
  #tell(): void {
    this.#notices.take()
    const json = translated(() => this.#native.changes())
    const keys = json === '' ? [] : (JSON.parse(json) as string[])
    if (keys.length > 0) for (const watch of this.#watches) watch.add(keys)
    this.#whole.check()
  }

  #wake(): void {
    if (this.#closed) return
    if (this.#waiter.waiting) this.#waiter.wake()
    else this.#attempt(() => this.#tell())
  }

  /** Nobody called for this, so nobody could catch what it throws. */
  #attempt(step: () => void): boolean {
    try {
      step()
      return true
    } catch (error) {
      this.#fail(error)
      return false
    }
  }

  #fail(raw: unknown): void {
    const error = fromNative(raw)
    if (!this.#whole.pending && this.#watches.size === 0) this.#notices.failed(error)
    this.#whole.fail(error)
    for (const watch of this.#watches) watch.end(error)
  }

  #want(more: number): void {
    this.#wanted += more
    this.#waitOn()
  }

  #waitOn(): void {
    if (this.#closed) return
    if (this.#wanted > 0) this.#waiter.start()
    else this.#waiter.stop()
  }

  /** Says why nothing came. */
  #explained(error: AbortError): AbortError {
    const why = this.#notices.lastFailure ?? (this.#notices.writers.length > 0 ? undefined : this.#mismatch())
    return withMismatch(error, why)
  }

  #left(watch: Watch): void {
    if (this.#watches.delete(watch)) this.#want(-1)
  }

  #assertOpen(): void {
    if (this.#closed) throw closedError('state reader')
  }
}
