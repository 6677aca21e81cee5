/**
 * Many small messages at a time. Payloads are written straight into the ring, and one call makes them visible. A batch is not a transaction:
 * when its window (64 KiB, or one message) is full, it is committed and the next one opened. While a window is open, the publisher's `send`
 * and `loan` throw `ERR_RINGBELL_WINDOW_OPEN`. So commit before anything else, also when something throws in between:
 * `using batch = publisher.batch()`, or `try { … batch.commit() } finally { batch.abandon() }`.
 */
import { checkBytes, invalid } from '../../check.js'
import { closedError, fromNative, translated } from '../../errors.js'
import { FRAME_HEADER, frameBytes, type Window } from './window.js'

/** @internal What a writer needs of its publisher. */
export interface BatchHost {
  readonly closed: boolean
  readonly maxMessage: number
  /** The one that opened a window last. */
  writer: BatchWriter | undefined
  refused(bytes: number): void
}

/** Writes many small messages in place and sends them together; `publisher.batch()` makes it. */
export class BatchWriter {
  readonly #window: Window
  readonly #host: BatchHost
  readonly #lengths: Uint32Array
  #bytes: Uint8Array = new Uint8Array(0)
  #at = 0
  #left = 0
  #count = 0

  /** @internal Use `publisher.batch()`. */
  constructor(window: Window, host: BatchHost) {
    this.#window = window
    this.#host = host
    this.#lengths = window.lengths
  }

  /** Messages written and not yet committed. */
  get pending(): number {
    return this.#count
  }

  /** The memory that `reserveAt` counts in. Valid until the next `commit`, and after a `reserveAt`. */
  get bytes(): Uint8Array {
    return this.#bytes
  }

  /**
   * Appends a copy of `bytes` as a message. `false`: there is no room (or, under `drop-newest`, it was dropped); what was
   * pushed before is committed, so `await publisher.ready()` and push it again.
   *
   * @throws {RingbellError} `ERR_RINGBELL_MESSAGE_TOO_LARGE`, `ERR_RINGBELL_WINDOW_OPEN` while a loan or another batch is open,
   * `ERR_RINGBELL_INVALID_OPTION` for what is no array of bytes or no whole number of them, `ERR_RINGBELL_CLOSED`.
   */
  push(bytes: Uint8Array): boolean {
    // Asked of every Uint8Array this would cost each `push` 4 ns.
    if (!(bytes instanceof Uint8Array)) checkBytes('bytes', bytes)
    const at = this.reserveAt(bytes.byteLength)
    if (at < 0) return false
    this.#bytes.set(bytes, at)
    return true
  }

  /** Appends a message of so many bytes for the caller to fill before `commit`; `undefined` when there is no room. Throws as `push` does. */
  reserve(byteLength: number): Uint8Array | undefined {
    const at = this.reserveAt(byteLength)
    return at < 0 ? undefined : this.#bytes.subarray(at, at + byteLength)
  }

  /** The same without a view: where in `bytes` the message is to be written, -1 when there is no room. */
  reserveAt(byteLength: number): number {
    const needed = frameBytes(byteLength)
    // Lengths above the window also keep `frameBytes` from overflowing 32 bits; the first test is for NaN, negative and broken ones.
    const fits =
      byteLength >>> 0 === byteLength &&
      byteLength <= this.#left &&
      needed <= this.#left &&
      this.#count < this.#lengths.length
    if (!fits && !this.#renew(byteLength)) return -1
    const at = this.#at + FRAME_HEADER
    this.#lengths[this.#count++] = byteLength
    this.#at += needed
    this.#left -= needed
    return at
  }

  /** Makes what was written visible, all at once, and wakes who sleeps. */
  commit(): void {
    if (this.#count > 0) this.#close(() => this.#window.commit(this.#count))
    else this.abandon()
  }

  /** Drops what was written since the last commit. */
  abandon(): void {
    if (this.#open) this.#close(() => this.#window.abandon())
  }

  /** `using`: as `abandon()`. */
  [Symbol.dispose](): void {
    this.abandon()
  }

  /** @internal The publisher closes: nothing can be written any more. */
  detach(): void {
    this.abandon()
    this.#bytes = new Uint8Array(0)
  }

  get #open(): boolean {
    return this.#left > 0 || this.#count > 0
  }

  #close(how: () => void): void {
    try {
      how()
    } catch (error) {
      throw fromNative(error)
    } finally {
      this.#left = 0
      this.#count = 0
    }
  }

  #renew(byteLength: number): boolean {
    // What is too large, Infinity too, is the window's to refuse.
    if (!(byteLength > this.#host.maxMessage || (Number.isInteger(byteLength) && byteLength >= 0)))
      throw invalid('byteLength', byteLength, 'must be a whole number of bytes')
    this.commit()
    if (this.#host.closed) throw closedError('publisher')
    const length = translated(() => this.#window.openFor(byteLength, this.#host.maxMessage))
    if (length === 0) {
      this.#host.refused(byteLength)
      return false
    }
    this.#host.writer = this
    this.#bytes = this.#window.bytes
    this.#at = this.#window.offset
    this.#left = length
    return true
  }
}
