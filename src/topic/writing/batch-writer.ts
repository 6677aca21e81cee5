/**
 * Many small messages at a time. Payloads are written straight into the ring, and one call makes them visible. A batch
 * is not a transaction: when its window (64 KiB, or one message) is full, it is committed and the next one is opened.
 * While a window is open, the publisher's `send` and `loan` throw `ERR_RINGBELL_WINDOW_OPEN`. So commit before anything
 * else, even when something throws in between:
 * `using batch = publisher.batch()`, or `try { … batch.commit() } finally { batch.abandon() }`.
 */
import { isBytes } from '../../brand.js'
import { invalid } from '../../invalid.js'
import { closedError, fromNative, reason, translated } from '../../errors.js'
import { membersOf, shown, type ShownOptions } from '../../shown.js'
import { FRAME_HEADER, frameBytes, type Window } from './window.js'

/** @internal What a writer needs from its publisher. */
export interface BatchHost {
  readonly closed: boolean
  readonly maxMessage: number
  /** The writer that opened a window last. */
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

  /** The memory in which `reserveAt` returns positions. Read it after `reserveAt`; it is valid until the next `commit`. */
  get bytes(): Uint8Array {
    return this.#bytes
  }

  /**
   * Appends a copy of `bytes` as a message. `false`: there is no room (or, with `drop-newest`, it was dropped). What
   * was pushed before is committed, so `await publisher.ready()` and push it again.
   *
   * @throws {RingbellError} `ERR_RINGBELL_MESSAGE_TOO_LARGE`, `ERR_RINGBELL_WINDOW_OPEN` while a loan or another batch
   * is open, `ERR_RINGBELL_INVALID_OPTION` if `bytes` is not an array of bytes, `ERR_RINGBELL_CLOSED`.
   */
  push(bytes: Uint8Array): boolean {
    // `isBytes` alone would cost 4 ns more for each `push`.
    if (!(bytes instanceof Uint8Array) && !isBytes(bytes)) throw invalid('bytes', bytes, 'must be a Uint8Array')
    const at = this.reserveAt(bytes.byteLength)
    if (at < 0) return false
    try {
      this.#bytes.set(bytes, at)
    } catch (cause) {
      // Its memory was transferred, so its length was 0. The message must not be sent.
      this.#takeBack(bytes.byteLength)
      throw invalid('bytes', bytes, `cannot be read: ${reason(cause)}`)
    }
    return true
  }

  /**
   * Appends a message of `byteLength` bytes, which the caller fills before `commit`; `undefined` when there is no room.
   * Throws as `push` does.
   */
  reserve(byteLength: number): Uint8Array | undefined {
    const at = this.reserveAt(byteLength)
    return at < 0 ? undefined : this.#bytes.subarray(at, at + byteLength)
  }

  /** Like `reserve`, without a view: returns the position in `bytes` where to write the message, or -1 when there is no room. */
  reserveAt(byteLength: number): number {
    if (typeof byteLength !== 'number') throw invalid('byteLength', byteLength, 'must be a whole number of bytes')
    const needed = frameBytes(byteLength)
    // The first test refuses NaN, negative and broken lengths. The second one refuses lengths for which `frameBytes`
    // overflows 32 bits.
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

  /** Makes all that was written visible at once, and wakes the subscribers that sleep. */
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

  /** What `console.log` shows. */
  [Symbol.for('nodejs.util.inspect.custom')](depth: number | null, options: ShownOptions): string {
    return shown('BatchWriter', membersOf(this, 'pending'), depth, options)
  }

  /** @internal The publisher closes: nothing can be written any more. */
  detach(): void {
    this.abandon()
    this.#bytes = new Uint8Array(0)
  }

  get #open(): boolean {
    return this.#left > 0 || this.#count > 0
  }

  /** The last reservation was for nothing. */
  #takeBack(byteLength: number): void {
    const needed = frameBytes(byteLength)
    this.#count--
    this.#at -= needed
    this.#left += needed
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
    // The window refuses lengths that are too large, also Infinity.
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
