/**
 * The reader of a state: `read()` at once, `for await` over changes. It follows the writer of the name, and keeps the last
 * value when there is none. Waiting is that of subscribers (topic/reading/reader-gate.ts).
 */
import type { PayloadCodec } from '../codec/payload-codec.js'
import { bytesOnly, checkArgument } from '../check.js'
import { invalid } from '../invalid.js'
import { inSteps } from '../closing.js'
import { channels } from '../diagnostics.js'
import { fromNative, translated } from '../errors.js'
import { type NativeStateReader, type NativeStateReaderHot, STATE_NEEDS } from '../native.js'
import { membersOf, shown, type ShownOptions } from '../shown.js'
import { ReaderGate } from '../topic/reading/reader-gate.js'
import type { SubscriberStats } from '../topic/stats.js'
import { checkSignal, type SignalOptions, throwIfAborted } from '../wait/abort.js'
import type { AsyncIteration } from '../wait/async-iteration.js'
import { Emitter } from '../wait/emitter.js'
import { Iteration } from '../wait/iteration.js'
import { once } from '../wait/once.js'
import { type WaitOption, WaitPolicy } from '../wait/policy.js'
import { poller, type Poller } from '../wait/poller.js'
import { TimeSlice } from '../wait/time-slice.js'
import { type AttachedWriter, StateNotices, type StateReaderEvents } from './notices.js'
import { Values } from './values.js'

/** @internal What a bus passes to the constructor. */
export interface StateReaderParts {
  native: NativeStateReader
  name: string
  payloads: PayloadCodec
  wait: WaitOption | undefined
  /** Which service has the name and is not a state, in words. */
  readonly mismatch: () => string | undefined
  readonly closed: (reader: StateReader<unknown>) => void
}

/** Reads the newest value of a state; `bus.watchState()` makes it. */
export class StateReader<T = Uint8Array>
  extends Emitter<StateReaderEvents>
  implements AsyncIterable<T>, AsyncDisposable
{
  /** The name that it was opened with. */
  readonly name: string
  readonly #native: NativeStateReader
  readonly #hot: NativeStateReaderHot
  readonly #read: NativeStateReaderHot['read']
  readonly #scratch: Float64Array
  readonly #values: Values<T>
  readonly #notices: StateNotices
  readonly #gate: ReaderGate
  readonly #poller: Poller
  readonly #id: number
  readonly #timeSlice = new TimeSlice()
  readonly #onClose: StateReaderParts['closed']

  /** @internal Use `bus.watchState()`. */
  constructor(parts: StateReaderParts) {
    super()
    const { native, payloads } = parts
    this.name = parts.name
    this.#native = native
    this.#hot = native.hot()
    this.#read = this.#hot.read
    this.#scratch = native.scratch
    this.#onClose = parts.closed
    this.#poller = poller()
    this.#notices = new StateNotices(this, () => translated(() => native.notices()))
    this.#values = new Values<T>(this.#hot, this.#scratch, payloads, () => this.#notices.take())
    const why = (): string | undefined =>
      this.#notices.lastFailure ?? (this.#notices.writers.length > 0 ? undefined : parts.mismatch())
    this.#gate = new ReaderGate(this.#hot, new WaitPolicy(parts.wait), this.#poller, why, 'state reader')
    this.#id = this.#poller.add(native, { wake: () => this.#wake() })
    if (channels.stateReader.opened.hasSubscribers) channels.stateReader.opened.publish({ stateReader: this })
  }

  /** The writers that are there right now: mostly one, or none. */
  get writers(): AttachedWriter[] {
    return this.#notices.writers
  }

  /** Whether it is closed. */
  get closed(): boolean {
    return this.#gate.closed
  }

  /** The version of the value that was read last: how many values its writer had set. 0: none was read. */
  get version(): number {
    return this.#scratch[0] as number
  }

  /** Grows with each writer of the name: that of the value that was read last. A later value has a greater epoch, or the same and a greater version. */
  get epoch(): number {
    const epoch = this.closed ? '' : translated(() => this.#native.epoch)
    return Number(epoch)
  }

  /**
   * The value, at once; `undefined` if none was found yet. It does not wait, and makes no system call while the writer's
   * memory is shared.
   *
   * @throws {RingbellError} `ERR_RINGBELL_CODEC`, `ERR_RINGBELL_SCHEMA`, `ERR_RINGBELL_CLOSED`.
   */
  read(): T | undefined {
    try {
      return this.#values.read()
    } catch (error) {
      throw fromNative(error)
    }
  }

  /**
   * Copies the bytes of the value to the start of `buffer`, and returns how many they are; `undefined` if no value was found
   * yet. No codec and no schema sees them, and nothing is allocated.
   *
   * @throws {RingbellError} `ERR_RINGBELL_INVALID_OPTION` when the buffer is shorter than the value, `ERR_RINGBELL_CLOSED`.
   */
  readInto(buffer: Uint8Array): number | undefined {
    let length
    try {
      length = this.#read(buffer)
    } catch (error) {
      checkArgument('buffer', buffer, bytesOnly)
      throw fromNative(error)
    }
    if (this.#scratch[2] !== 0) this.#takeNotices()
    if (length >= 0) return length
    if (length === STATE_NEEDS) throw invalid('buffer', buffer, `must have ${this.#scratch[1]} bytes for this value`)
    return undefined
  }

  /**
   * The next value that no `next()` and no iteration has had: at once, if there is one. Values in between are passed over.
   *
   * Rejects with `ERR_RINGBELL_CLOSED`, `ERR_RINGBELL_BUSY` while another call waits, or an `AbortError`.
   */
  async next(options: SignalOptions = {}): Promise<T> {
    checkSignal(options)
    throwIfAborted(options.signal)
    this.#gate.assertFree()
    if (!this.#timeSlice.due() && translated(() => this.#values.refill())) return translated(() => this.#values.take())
    return once(this.#values, this.#gate, this.#timeSlice, options.signal)
  }

  /**
   * `for await (const value of reader)`: the present value, then the newest one after each change, until `close()` ends it.
   *
   * @throws {RingbellError} `ERR_RINGBELL_BUSY` while there is another iteration, `ERR_RINGBELL_CLOSED`.
   */
  [Symbol.asyncIterator](): AsyncIteration<T> {
    return this.values()
  }

  /** The same with a signal: when it fires, the iteration rejects with an `AbortError`. */
  values(options: SignalOptions = {}): AsyncIteration<T> {
    checkSignal(options)
    return new Iteration(this.#values, this.#gate, options.signal)
  }

  /** Counters, and what the reader knows of its writers. A topic's words: values are messages; those passed over are missing. */
  stats(): SubscriberStats {
    return JSON.parse(translated(() => this.#native.stats())) as SubscriberStats
  }

  /** Waiting for values keeps the process alive (the default). */
  ref(): this {
    this.#gate.referenced = true
    return this
  }

  /** Waiting for values does not keep the process alive. */
  unref(): this {
    this.#gate.referenced = false
    return this
  }

  /** Leaves the state. Iterations end, `next()` rejects; idempotent. */
  async close(): Promise<void> {
    this.closeNow()
  }

  /** `await using`: as `close()`. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.closeNow()
  }

  /** What `console.log` shows. */
  [Symbol.for('nodejs.util.inspect.custom')](depth: number | null, options: ShownOptions): string {
    return shown('StateReader', membersOf(this, 'name', 'closed', 'version', 'writers'), depth, options)
  }

  /** @internal */
  closeNow(): void {
    if (this.#gate.closed) return
    this.#onClose(this)
    inSteps(
      () => this.#gate.close(),
      () => this.#notices.clear(),
      () => this.#poller.remove(this.#id),
      () => this.#native.close(),
      () => {
        if (channels.stateReader.closed.hasSubscribers) channels.stateReader.closed.publish({ stateReader: this })
      },
    )
  }

  #wake(): void {
    if (!this.#gate.closed && !this.#gate.wake()) this.#takeNotices()
  }

  #takeNotices(): void {
    translated(() => this.#notices.take())
  }
}
