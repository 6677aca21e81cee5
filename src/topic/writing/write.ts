/**
 * One message of a `write()`. A large one goes in pieces, as many as there is room for. Once it has begun, the ring
 * accepts nothing else until its last piece is in, or it is given up.
 */
import type { NativePublisherHot } from '../../native.js'

export class Write {
  readonly #hot: NativePublisherHot
  readonly #data: Uint8Array
  readonly #large: boolean
  #begun = false
  #done = 0

  constructor(hot: NativePublisherHot, data: Uint8Array, large: boolean) {
    this.#hot = hot
    this.#data = data
    this.#large = large
  }

  /** Sends it, or its next piece; `true` when nothing is left to send. */
  proceed(): boolean {
    if (!this.#large) return this.#hot.send(this.#data) === 1
    // Set before the call, because a call that throws may have begun the message.
    this.#begun = true
    this.#done = this.#hot.sendLarge(this.#data, this.#done)
    return this.#done === this.#data.byteLength
  }

  /** The message will not be sent, or not completely. */
  abandon(): void {
    if (this.#begun) this.#hot.abandonLarge()
  }
}
