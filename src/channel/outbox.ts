/**
 * What one connection has to send and found no room for, in order, and everything that is larger than its ring takes at once. Nothing overtakes
 * it: while it is not empty, everything that is sent queues up here. It throws only what the binding throws.
 */
import type { NativeChannelHot } from '../native.js'
import { Fifo } from '../wait/fifo.js'

export interface Frame {
  /** Kind and flags. */
  readonly head: number
  readonly id: number
  readonly aux: number
  readonly data: Uint8Array
  /** Bytes of a large message that are in; -1 for one that goes in one piece. */
  done: number
  /** It is on its way, all of it. */
  readonly sent: (() => void) | undefined
}

/** Room that is worth going on with a large message. */
const LARGE_STEP = 1024

export class Outbox {
  readonly #hot: NativeChannelHot
  readonly #connection: number
  readonly #frames = new Fifo<Frame>()

  constructor(hot: NativeChannelHot, connection: number) {
    this.#hot = hot
    this.#connection = connection
  }

  get empty(): boolean {
    return this.#frames.size === 0
  }

  /** Bytes of data that the next step needs room for. */
  get wanted(): number {
    const frame = this.#frames.peek()
    if (frame === undefined) return 0
    const { done, data } = frame
    return done < 0 ? data.byteLength : Math.min(LARGE_STEP, data.byteLength - done)
  }

  push(frame: Frame): void {
    this.#frames.push(frame)
  }

  /** Takes back what nobody has seen all of; `false` when there is no such frame any more. */
  remove(head: number, id: number): boolean {
    const first = this.#frames.peek()
    const frame = this.#frames.take((one) => one.id === id && one.head === head)
    if (frame === undefined) return false
    // Begun, though perhaps no byte of it found room.
    if (frame === first && frame.done >= 0) this.#hot.abandonLarge(this.#connection)
    return true
  }

  /** Sends as much as there is room for; `true` when that was all. */
  flush(): boolean {
    for (let frame = this.#frames.peek(); frame !== undefined; frame = this.#frames.peek()) {
      if (!this.#send(frame)) return false
      this.#frames.shift()
      frame.sent?.()
    }
    return true
  }

  clear(): void {
    this.#frames.clear()
  }

  #send(frame: Frame): boolean {
    const { head, id, aux, data } = frame
    if (frame.done < 0) return this.#hot.send(this.#connection, head, id, aux, data) === 1
    frame.done = this.#hot.sendLarge(this.#connection, head, id, aux, data, frame.done)
    return frame.done === data.byteLength
  }
}
