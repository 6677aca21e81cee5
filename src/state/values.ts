/**
 * The values of a state, as a source that readers take from: always the newest, each at most once. Values that were set
 * while the reader was busy are passed over.
 */
import { type NativeStateReaderHot, STATE_NEEDS } from '../native.js'
import type { PayloadCodec } from '../codec/payload-codec.js'
import type { MessageSource } from '../wait/reader.js'

/** Bytes of the first memory that values are copied to. */
const FIRST = 4096

export class Values<T> implements MessageSource<T> {
  readonly #hot: NativeStateReaderHot
  readonly #scratch: Float64Array
  readonly #payloads: PayloadCodec
  readonly #told: () => void
  #memory = new Uint8Array(FIRST)
  #length = -1

  /** `told`: the core has notices. */
  constructor(hot: NativeStateReaderHot, scratch: Float64Array, payloads: PayloadCodec, told: () => void) {
    this.#hot = hot
    this.#scratch = scratch
    this.#payloads = payloads
    this.#told = told
  }

  refill(iterations = 0): boolean {
    if (this.#length >= 0) return true
    this.#length = this.#copy(this.#hot.next)
    if (this.#length < 0 && iterations > 0 && this.#hot.spin(iterations)) this.#length = this.#copy(this.#hot.next)
    return this.#length >= 0
  }

  /** A newer value may have come since `refill`; that is the one that is taken. */
  take(): T {
    const length = this.#length
    this.#length = -1
    return this.#decode(length)
  }

  /** The value, whether it was taken before or not. */
  read(): T | undefined {
    const length = this.#copy(this.#hot.read)
    // The memory holds the value that `take` would have taken, or a newer one.
    if (this.#length >= 0) this.#length = length
    return length < 0 ? undefined : this.#decode(length)
  }

  leave(): void {}

  #copy(read: (target: Uint8Array) => number): number {
    for (;;) {
      const length = read(this.#memory)
      if (this.#scratch[2] !== 0) this.#told()
      if (length !== STATE_NEEDS) return length
      this.#memory = new Uint8Array(this.#scratch[1] as number)
    }
  }

  #decode(length: number): T {
    const { own } = this.#payloads
    // Bytes are given away, so they must not be overwritten by the next value. A codec has read them when it returns.
    const data = own ? this.#memory.slice(0, length) : this.#memory.subarray(0, length)
    return this.#payloads.decodeMessage(data) as T
  }
}
