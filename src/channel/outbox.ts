/**
 * What one connection has to send and found no room for, in order, and everything that is larger than its ring takes at once. Nothing overtakes
 * it: while it is not empty, everything that is sent queues up here. It throws only what the binding throws.
 */
import { reason, RingbellError } from '../errors.js'
import type { NativeChannelHot } from '../native.js'
import { Fifo } from '../wait/fifo.js'

export interface Frame {
  /** Kind and flags. */
  readonly head: number
  readonly id: number
  readonly aux: number
  readonly data: Uint8Array
  /** Of the data, when it was queued. */
  readonly bytes: number
  /** Bytes of a large message that are in; -1 for one that goes in one piece. */
  done: number
  /** The other side sees that a large message has begun, though perhaps none of its data. */
  begun: boolean
  /** All of it is on its way; or, with an error, it never will be. */
  readonly sent: (error?: RingbellError) => void
}

/** Room that is worth going on with a large message; to begin one takes less. */
const LARGE_STEP = 1024
const NO_ROOM = Symbol('no room')

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

  get size(): number {
    return this.#frames.size
  }

  /** Bytes of data that the next step needs room for. */
  get wanted(): number {
    const frame = this.#frames.peek()
    if (frame === undefined) return 0
    const { done, bytes } = frame
    return done < 0 ? bytes : Math.min(LARGE_STEP, bytes - done)
  }

  push(frame: Frame): void {
    this.#frames.push(frame)
  }

  /** Takes back what is not sent yet; `true` when there was such a frame, and the other side has seen nothing of it. */
  remove(head: number, id: number): boolean {
    const frame = this.#frames.take((one) => one.id === id && one.head === head)
    if (frame === undefined) return false
    if (frame.begun) this.#hot.abandonLarge(this.#connection)
    return !frame.begun
  }

  /** Sends as much as there is room for; `true` when that was all. */
  flush(): boolean {
    // Who is told that a frame failed may send something, which comes back here.
    for (let frame = this.#frames.peek(); frame !== undefined; frame = this.#frames.peek()) {
      const error = this.#send(frame)
      if (error === NO_ROOM) return false
      this.#frames.shift()
      frame.sent(error)
    }
    return true
  }

  clear(): void {
    this.#frames.clear()
  }

  /** An error is about the frame's own bytes: it is given up, and nothing else. */
  #send(frame: Frame): RingbellError | typeof NO_ROOM | undefined {
    const { head, id, aux, data, bytes } = frame
    if (frame.done < 0) return this.#hot.send(this.#connection, head, id, aux, data) === 1 ? undefined : NO_ROOM
    if (data.byteLength !== bytes) return this.#giveUp(frame, `they were ${bytes} and are ${data.byteLength} now`)
    if (!frame.begun && !this.#hot.hasRoom(this.#connection, this.wanted)) return NO_ROOM
    try {
      frame.begun = true
      frame.done = this.#hot.sendLarge(this.#connection, head, id, aux, data, frame.done)
    } catch (error) {
      if (!isOfBytes(error)) throw error
      return this.#giveUp(frame, reason(error))
    }
    return frame.done === bytes ? undefined : NO_ROOM
  }

  #giveUp(frame: Frame, why: string): RingbellError {
    if (frame.begun) this.#hot.abandonLarge(this.#connection)
    return new RingbellError(
      'ERR_RINGBELL_INVALID_OPTION',
      `The bytes of a large message must stay as they are until all of them are sent: ${why}`,
    )
  }
}

/** Not about the peer: the bytes that somebody gave us are none, or were transferred. */
export function isOfBytes(error: unknown): boolean {
  return (error as { code?: unknown }).code === 'ERR_RINGBELL_INVALID_OPTION'
}
