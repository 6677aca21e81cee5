/**
 * The writer of a state with keys: a value for each key, which any process reads. Setting and deleting never wait. All keys
 * and values may have half of the ring; docs/guide/state.md says what is guaranteed.
 */
import type { Claim } from '../bus/claim.js'
import { metadataJson } from '../bus/options.js'
import { type RecordJson, type Service, serviceOf } from '../bus/service.js'
import { checkBytes } from '../codec/bytes.js'
import type { PayloadCodec } from '../codec/payload-codec.js'
import { inSteps } from '../closing.js'
import { channels } from '../diagnostics.js'
import { fromNative, type RingbellError, tooLargeForState, translated } from '../errors.js'
import type { NativeKeyedState } from '../native.js'
import { membersOf, shown, type ShownOptions } from '../shown.js'
import type { PublisherStats } from '../topic/stats.js'
import { checkKey } from './options.js'

/** @internal What a bus passes to the constructor. */
export interface KeyedStateParts {
  native: NativeKeyedState
  claim: Claim
  payloads: PayloadCodec
  readonly closed: (state: KeyedState<unknown>) => void
}

/** The writer of a state with keys; `bus.keyedState()` makes it. */
export class KeyedState<T = Uint8Array> implements AsyncDisposable {
  /** The largest key and value together, in bytes. */
  readonly size: number
  /** Grows with each writer of the name. */
  readonly epoch: number
  /** Resolves with the reason when another process may write the name: readers then follow the next writer. */
  readonly lost: Promise<RingbellError>
  readonly #native: NativeKeyedState
  readonly #claim: Claim
  readonly #payloads: PayloadCodec
  readonly #onClose: KeyedStateParts['closed']
  #closed = false

  /** @internal Use `bus.keyedState()`. */
  constructor({ native, claim, payloads, closed }: KeyedStateParts) {
    this.size = native.size
    this.epoch = claim.epoch
    this.lost = claim.lost
    this.#claim = claim
    this.#native = native
    this.#payloads = payloads
    this.#onClose = closed
    if (channels.state.opened.hasSubscribers) channels.state.opened.publish({ state: this })
  }

  /** How many changes there were. */
  get version(): number {
    return translated(() => this.#native.version)
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
   * Sets the value of a key, at once for every reader.
   *
   * @throws {RingbellError} `ERR_RINGBELL_MESSAGE_TOO_LARGE` when key and value are above `size`, `ERR_RINGBELL_STATE_FULL`
   * when all of them would be above half of the ring, `ERR_RINGBELL_CODEC`, `ERR_RINGBELL_SCHEMA`, `ERR_RINGBELL_CLOSED`.
   * Nothing has changed then.
   */
  set(key: string, value: T): void {
    checkKey(key)
    const data = this.#payloads.encodeMessage(value)
    try {
      this.#native.set(key, data)
    } catch (error) {
      checkBytes(data)
      const bytes = Buffer.byteLength(key) + data.byteLength
      if (bytes > this.size) throw tooLargeForState(bytes, this.size, 'key with its value')
      throw fromNative(error)
    }
  }

  /** Deletes a key. Returns whether it was there. */
  delete(key: string): boolean {
    checkKey(key)
    return translated(() => this.#native.delete(key))
  }

  /** The value of a key, as it was set here. */
  get(key: string): T | undefined {
    checkKey(key)
    const data = translated(() => this.#native.get(key))
    return data === null ? undefined : (this.#payloads.decodeMessage(data) as T)
  }

  /** The keys that have a value, in no order. */
  keys(): string[] {
    return JSON.parse(translated(() => this.#native.keys())) as string[]
  }

  /** Replaces the record's metadata; others see `updated`. */
  update(metadata: Record<string, unknown>): void {
    const json = metadataJson(metadata)
    translated(() => this.#native.update(json))
  }

  /** Counters of the writer, and of each attached reader. A topic's words; entries that were written again are messages, too. */
  stats(): PublisherStats {
    return JSON.parse(translated(() => this.#native.stats())) as PublisherStats
  }

  /** Withdraws the state. Readers keep what they have. Idempotent. */
  async close(): Promise<void> {
    this.closeNow()
  }

  /** `await using`: as `close()`. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.closeNow()
  }

  /** What `console.log` shows. */
  [Symbol.for('nodejs.util.inspect.custom')](depth: number | null, options: ShownOptions): string {
    return shown('KeyedState', membersOf(this, 'service', 'closed', 'readers', 'version'), depth, options)
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
