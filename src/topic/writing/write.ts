/**
 * One message of a `write()`. A large one goes in pieces, as many as there is room for. Once it has begun, the ring
 * accepts nothing else until its last piece is in, or it is given up.
 */
import type { HeaderTable } from '../../headers.js'
import type { NativePublisherHot } from '../../native.js'

/** The headers of a message, which lie behind its payload. */
export interface Headed {
  /** The table through which they go to the binding. */
  readonly table: HeaderTable
  readonly size: number
}

export class Write {
  readonly #hot: NativePublisherHot
  readonly #data: Uint8Array
  readonly #headed: Headed | undefined
  readonly #large: boolean
  #begun = false
  #done = 0

  constructor(hot: NativePublisherHot, data: Uint8Array, large: boolean, headed: Headed | undefined) {
    this.#hot = hot
    this.#data = data
    this.#headed = headed
    this.#large = large
  }

  /** Sends it, or its next piece; `true` when nothing is left to send. */
  proceed(): boolean {
    if (!this.#large) return this.#sendAtOnce() === 1
    // Set before the call, because a call that throws may have begun the message.
    this.#begun = true
    this.#done = this.#hot.sendLarge(this.#data, this.#done, this.#headed?.size ?? 0)
    return this.#done === this.#data.byteLength
  }

  /** The message will not be sent, or not completely. */
  abandon(): void {
    if (this.#begun) this.#hot.abandonLarge()
  }

  #sendAtOnce(): number {
    const data = this.#data
    if (this.#headed === undefined) return this.#hot.send(data)
    const { table, size } = this.#headed
    const length = data.byteLength - size
    table.load(data.subarray(length))
    return this.#hot.sendWith(data.subarray(0, length), size)
  }
}
