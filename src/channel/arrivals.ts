/**
 * Large messages that arrive. Their pieces are copied from the ring straight into the memory for the whole message.
 * That is the caller's own memory if the call has given some. A message above the limit is dropped, and the call that
 * waits for it fails.
 */
import { reason, RingbellError } from '../errors.js'
import { LARGE_GONE, type NativeChannelHot } from '../native.js'
import { isAnswer, type Link } from './link.js'
import { HEADERS_AT, KIND } from './wire.js'

export class Arrivals {
  readonly #hot: NativeChannelHot
  readonly #maxMessage: number
  /** Is called for a dropped message that no call waits for. */
  readonly #dropped: (error: RingbellError, link: Link) => void
  readonly #arriving = new Set<Link>()
  #ripe: Link | undefined

  constructor(hot: NativeChannelHot, maxMessage: number, dropped: (error: RingbellError, link: Link) => void) {
    this.#hot = hot
    this.#maxMessage = maxMessage
    this.#dropped = dropped
  }

  /** The core reports a large message that begins or goes on. `true` when something has changed. */
  begin(connection: number, link: Link | undefined, bytes: number, head: number, id: number, aux: number): boolean {
    if (link === undefined) {
      this.#hot.skipLarge(connection)
      return true
    }
    const { arrival } = link
    // The sender gave up the message that was arriving, and has begun another one.
    if (arrival?.id !== id || arrival.head !== head || arrival.target.byteLength !== bytes + (head >>> HEADERS_AT)) {
      link.arrival = undefined
      if (arrival !== undefined) link.givenUp(arrival)
      const target = this.#targetFor(link, head, id, bytes)
      if (target === undefined) {
        link.skipLarge()
        return true
      }
      link.arrival = { head, id, aux, target, filled: 0 }
      this.#arriving.add(link)
    }
    return this.#goOn(link)
  }

  /** Reads more of the messages that arrive. `true` when one of them moved or ended. */
  goOn(): boolean {
    for (const link of this.#arriving) if (this.#goOn(link)) return true
    return false
  }

  /** Passes the complete message to its link. `false` when there is none. */
  handOn(): boolean {
    const link = this.#ripe
    if (link === undefined) return false
    this.#ripe = undefined
    const { arrival } = link
    link.arrival = undefined
    if (arrival !== undefined) {
      const { head, id, aux, target } = arrival
      const headers = head >>> HEADERS_AT
      link.receive(head, id, aux, headers === 0 ? target : target.subarray(0, target.byteLength - headers))
    }
    return true
  }

  forget(link: Link): void {
    this.#arriving.delete(link)
    if (this.#ripe === link) this.#ripe = undefined
  }

  #goOn(link: Link): boolean {
    const { arrival } = link
    if (arrival === undefined) {
      this.#arriving.delete(link)
      return false
    }
    const filled = link.readLarge(arrival)
    if (filled === LARGE_GONE) {
      link.arrival = undefined
      this.#arriving.delete(link)
      link.givenUp(arrival)
      return true
    }
    const moved = filled > arrival.filled
    arrival.filled = filled
    if (filled < arrival.target.byteLength) return moved
    this.#arriving.delete(link)
    this.#ripe = link
    return true
  }

  #targetFor(link: Link, head: number, id: number, bytes: number): Uint8Array | undefined {
    if (bytes > this.#maxMessage) {
      this.refuse(link, head, id, bytes)
      return undefined
    }
    try {
      const headers = head >>> HEADERS_AT
      // The memory of the caller has no room for headers.
      const own = (head & 0xff) === KIND.reply && headers === 0
      return (own ? link.calls.get(id)?.target(bytes) : undefined) ?? new Uint8Array(bytes + headers)
    } catch (cause) {
      const lack = `There is no memory for a message of ${bytes} bytes: ${reason(cause)}`
      this.refuse(link, head, id, bytes, new RingbellError('ERR_RINGBELL_RESOURCE', lack, { cause }))
      return undefined
    }
  }

  /**
   * Drops a message that is above the limit, or for which there is no memory (`lack`). The side that waits for it, or
   * for its answer, gets the error.
   */
  refuse(link: Link, head: number, id: number, bytes: number, lack?: RingbellError): void {
    const kind = head & 0xff
    const limit = this.#maxMessage
    if (kind === KIND.request) {
      link.refuse(id, lack ?? requestTooLarge(bytes, limit))
      return
    }
    const asked = isAnswer(kind) || kind === KIND.error ? link.calls.get(id) : undefined
    if (asked !== undefined) {
      // A stream stays in the table until it has cancelled itself.
      if (kind !== KIND.chunk) link.calls.delete(id)
      const error = lack ?? replyTooLarge(bytes, limit)
      if (kind === KIND.error) asked.fail(error)
      else asked.tooLarge(error)
      return
    }
    if (kind === KIND.message) link.passOver(bytes + (head >>> HEADERS_AT))
    this.#dropped(lack ?? messageTooLarge(link, bytes, limit), link)
  }
}

export function replyTooLarge(bytes: number, limit: number): RingbellError {
  return new RingbellError(
    'ERR_RINGBELL_MESSAGE_TOO_LARGE',
    `A reply of ${bytes} bytes is larger than the limit of ${limit} bytes; raise maxMessage, or give a larger buffer as "into".`,
  )
}

function requestTooLarge(bytes: number, limit: number): RingbellError {
  return new RingbellError(
    'ERR_RINGBELL_MESSAGE_TOO_LARGE',
    `A request of ${bytes} bytes is larger than the other side's limit of ${limit} bytes; raise its option maxMessage.`,
  )
}

function messageTooLarge(link: Link, bytes: number, limit: number): RingbellError {
  return new RingbellError(
    'ERR_RINGBELL_MESSAGE_TOO_LARGE',
    `Process ${link.peer.pid} sent a message of ${bytes} bytes, which is larger than the limit of ${limit} bytes; raise the option maxMessage.`,
  )
}
