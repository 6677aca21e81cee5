/**
 * The writer of a state: one value, which any process reads. `set` never waits and allocates nothing. Readers that look
 * later see the last value only; docs/guide/state.md says what is guaranteed.
 */
import type { Claim } from '../bus/claim.js'
import { metadataJson } from '../bus/options.js'
import { type RecordJson, type Service, serviceOf } from '../bus/service.js'
import { checkBytes } from '../codec/bytes.js'
import type { PayloadCodec } from '../codec/payload-codec.js'
import { inSteps } from '../closing.js'
import { channels } from '../diagnostics.js'
import { fromNative, type RingbellError, tooLargeForState, translated } from '../errors.js'
import type { NativeState, NativeStateHot } from '../native.js'
import { membersOf, shown, type ShownOptions } from '../shown.js'
import type { PublisherStats } from '../topic/stats.js'

/** @internal What a bus passes to the constructor. */
export interface StateParts {
  native: NativeState
  claim: Claim
  payloads: PayloadCodec
  readonly closed: (state: State<unknown>) => void
}

/** The writer of a state; `bus.state()` makes it. */
export class State<T = Uint8Array> implements AsyncDisposable {
  /** The largest value in bytes. */
  readonly size: number
  /** Grows with each writer of the name. */
  readonly epoch: number
  /** Resolves with the reason when another process may write the name: readers then follow the next writer. */
  readonly lost: Promise<RingbellError>
  readonly #native: NativeState
  readonly #set: NativeStateHot['set']
  readonly #claim: Claim
  readonly #payloads: PayloadCodec
  readonly #onClose: StateParts['closed']
  #version = 0
  #closed = false

  /** @internal Use `bus.state()`. */
  constructor({ native, claim, payloads, closed }: StateParts) {
    this.size = native.size
    this.epoch = claim.epoch
    this.lost = claim.lost
    this.#claim = claim
    this.#native = native
    this.#set = native.hot().set
    this.#payloads = payloads
    this.#onClose = closed
    if (channels.state.opened.hasSubscribers) channels.state.opened.publish({ state: this })
  }

  /** How many values were set: the version of the present one. 0: none yet. */
  get version(): number {
    return this.#version
  }

  /** The state as others see it. */
  get service(): Service {
    return serviceOf(JSON.parse(translated(() => this.#native.record())) as RecordJson)
  }

  /** Readers attached right now. */
  get readers(): number {
    return this.#closed ? 0 : translated(() => this.#native.readers)
  }

  /** Whether it is closed. */
  get closed(): boolean {
    return this.#closed
  }

  /**
   * Sets the value, at once for every reader. Returns its version.
   *
   * @throws {RingbellError} `ERR_RINGBELL_MESSAGE_TOO_LARGE` above `size`, `ERR_RINGBELL_CODEC`, `ERR_RINGBELL_SCHEMA`,
   * `ERR_RINGBELL_CLOSED`. The value then stays as it was.
   */
  set(value: T): number {
    const data = this.#payloads.encodeMessage(value)
    try {
      this.#set(data)
    } catch (error) {
      checkBytes(data)
      if (data.byteLength > this.size) throw tooLargeForState(data.byteLength, this.size)
      throw fromNative(error)
    }
    return ++this.#version
  }

  /** Replaces the record's metadata; others see `updated`. */
  update(metadata: Record<string, unknown>): void {
    const json = metadataJson(metadata)
    translated(() => this.#native.update(json))
  }

  /** Counters of the writer, and of each attached reader. A topic's words: values are messages, readers are subscribers. */
  stats(): PublisherStats {
    return JSON.parse(translated(() => this.#native.stats())) as PublisherStats
  }

  /** Withdraws the state. Readers keep the last value. Idempotent. */
  async close(): Promise<void> {
    this.closeNow()
  }

  /** `await using`: as `close()`. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.closeNow()
  }

  /** What `console.log` shows. */
  [Symbol.for('nodejs.util.inspect.custom')](depth: number | null, options: ShownOptions): string {
    return shown('State', membersOf(this, 'service', 'closed', 'readers', 'version'), depth, options)
  }

  /** @internal */
  closeNow(): void {
    if (this.#closed) return
    this.#closed = true
    this.#onClose(this)
    inSteps(
      () => this.#native.close(),
      () => this.#claim.releaseNow(),
      () => {
        if (channels.state.closed.hasSubscribers) channels.state.closed.publish({ state: this })
      },
    )
  }
}
