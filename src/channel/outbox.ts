/**
 * The messages of one connection that found no room, in order, and all messages that go in pieces. Nothing overtakes
 * them: while the outbox is not empty, every message is queued here. It throws only errors of the binding.
 */
import { fromNative, reason, RingbellError } from '../errors.js'
import type { NativeChannelHot } from '../native.js'
import { Fifo } from '../wait/fifo.js'

export interface Frame {
  /** Kind and flags. */
  readonly head: number
  readonly id: number
  readonly aux: number
  readonly data: Uint8Array
  /** The length of the data when it was queued. */
  readonly bytes: number
  /** Bytes of a large message that are sent; -1 for a message that goes in one piece. */
  done: number
  /** The other side can see that a large message has begun, even before any of its data. */
  begun: boolean
  /** Called when all of it is sent, or with an error if it never will be. */
  readonly sent: (error?: RingbellError) => void
}

/** Bytes of room that are worth waiting for to go on with a large message. */
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

  /** Takes a frame out that is not sent yet. `true` when there was one, and the other side has seen nothing of it. */
  remove(head: number, id: number): boolean {
    const frame = this.#frames.take((one) => one.id === id && one.head === head)
    if (frame === undefined) return false
    if (frame.begun) this.#hot.abandonLarge(this.#connection)
    return !frame.begun
  }

  /** Sends as much as there is room for. `true` when everything is sent. */
  flush(): boolean {
    // The callback of a frame may send something, which calls this method again.
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

  /** Sends a frame, or a part of it. A returned error is about the frame's own bytes: only this frame is given up. */
  #send(frame: Frame): RingbellError | typeof NO_ROOM | undefined {
    const { head, id, aux, data, bytes } = frame
    if (frame.done < 0) return this.#hot.send(this.#connection, head, id, aux, data) === 1 ? undefined : NO_ROOM
    if (data.byteLength !== bytes) return this.#changed(frame, `they were ${bytes} and are ${data.byteLength} now`)
    if (!frame.begun && !this.#hot.hasRoom(this.#connection, this.wanted)) return NO_ROOM
    try {
      frame.begun = true
      frame.done = this.#hot.sendLarge(this.#connection, head, id, aux, data, frame.done)
    } catch (error) {
      if (isTooLarge(error)) {
        // The core has refused it before any of it was sent.
        frame.begun = false
        return fromNative(error) as RingbellError
      }
      if (!isOfBytes(error)) throw error
      return this.#changed(frame, reason(error))
    }
    return frame.done === bytes ? undefined : NO_ROOM
  }

  #changed(frame: Frame, why: string): RingbellError {
    if (frame.begun) this.#hot.abandonLarge(this.#connection)
    return new RingbellError(
      'ERR_RINGBELL_INVALID_OPTION',
      `The bytes of a large message must not change until all of them are sent: ${why}`,
    )
  }
}

/** Whether an error is not about the peer but about bytes of the user, which cannot be read or were transferred. */
export function isOfBytes(error: unknown): boolean {
  return (error as { code?: unknown }).code === 'ERR_RINGBELL_INVALID_OPTION'
}

/** Whether the core refuses a message of this size on every connection. */
function isTooLarge(error: unknown): boolean {
  return (error as { code?: unknown }).code === 'ERR_RINGBELL_MESSAGE_TOO_LARGE'
}
