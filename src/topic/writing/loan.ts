/** One message that is written in place, without a copy: memory of the ring, until `commit` or `abandon`. */
import { check, integer } from '../../check.js'
import { fromNative, RingbellError } from '../../errors.js'
import { membersOf, shown, type ShownOptions } from '../../shown.js'
import { FRAME_HEADER, type Window } from './window.js'

/** Memory of the ring for one message, to be written in place; `publisher.loan()` makes it. */
export class Loan {
  readonly #window: Window
  readonly #length: number
  #data: Uint8Array | undefined

  /** @internal Use `publisher.loan()`. */
  constructor(window: Window, length: number) {
    this.#window = window
    this.#length = length
    const at = window.offset + FRAME_HEADER
    this.#data = window.bytes.subarray(at, at + length)
  }

  /** The memory to fill. It still holds old bytes. */
  get data(): Uint8Array {
    return this.#open()
  }

  /**
   * Sends the first `byteLength` bytes of it, all by default.
   *
   * @throws {RingbellError} `ERR_RINGBELL_INVALID_OPTION` for more bytes than the loan has (it stays open),
   * `ERR_RINGBELL_RELEASED`.
   */
  commit(byteLength: number = this.#length): void {
    this.#open()
    check({ byteLength }, { byteLength: integer(0, this.#length) })
    this.#window.lengths[0] = byteLength
    this.#end(() => this.#window.commit(1))
  }

  /** Gives it back unsent; idempotent. */
  abandon(): void {
    if (this.#data !== undefined) this.#end(() => this.#window.abandon())
  }

  /** `using`: gives it up, unless it was sent. */
  [Symbol.dispose](): void {
    this.abandon()
  }

  /** What `console.log` shows. */
  [Symbol.for('nodejs.util.inspect.custom')](depth: number | null, options: ShownOptions): string {
    return shown('Loan', membersOf(this, 'data'), depth, options)
  }

  #open(): Uint8Array {
    if (this.#data === undefined)
      throw new RingbellError(
        'ERR_RINGBELL_RELEASED',
        'This loan was committed or abandoned; take another one with publisher.loan().',
      )
    return this.#data
  }

  #end(how: () => void): void {
    this.#data = undefined
    try {
      how()
    } catch (error) {
      throw fromNative(error)
    }
  }
}
