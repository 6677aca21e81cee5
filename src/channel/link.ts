/**
 * One connection, seen from inside. What is sent goes out here; what arrives is told apart by kind. Both sides are alike: a server's link mostly
 * has requests in hand, a client's has calls in flight, and a work queue turns that around. A peer that breaks the rules of
 * docs/protocol.md is disconnected. User code runs from here only in request handlers.
 *
 * Every call of the binding about one connection is made here, or in its outbox. Any of them can find that the peer broke a rule, or is
 * gone. `#fault` then ends the link. Such an error is never thrown into a handler, a queue, a timer or a loop.
 */
import { EMPTY } from '../codec/bytes.js'
import { fromNative, reason, type RingbellError } from '../errors.js'
import { LARGE_GONE, type NativeChannelHot } from '../native.js'
import { Fifo } from '../wait/fifo.js'
import { Condition } from '../wait/condition.js'
import { type Waiting, waitFor } from '../wait/waiting.js'
import { isOfBytes, Outbox, type Frame } from './outbox.js'
import { encodeError } from './remote-error.js'
import { FLAGS_AT, HEADER_BYTES, KIND, MESSAGE_WINDOW } from './wire.js'

/** Who is at the other end. */
export interface PeerInfo {
  /** The process, in our pid namespace; 0 when it is in another one. */
  readonly pid: number
  /** Its user. */
  readonly uid: number
}

/** Why a connection has ended. */
export type EndReason = 'closed' | 'died' | 'failed'

/** Somebody who asked something, and what comes back. None of these may throw. */
export interface Pending {
  id: number
  /** How many messages had been sent when this one was; 0 while it waits for room. */
  ordinal: number
  /** It left the outbox as message number `ordinal`. */
  sent(ordinal: number): void
  reply(flags: number, data: Uint8Array): void
  error(flags: number, data: Uint8Array): void
  chunk(data: Uint8Array): void
  end(): void
  /** The connection is gone; `reached`: the other side may have seen it. */
  lost(reached: boolean, why: string): void
  /** Memory for a large answer, if there is some at hand. */
  target(bytes: number): Uint8Array | undefined
  /** It cannot be sent, or why it failed cannot be received. */
  fail(error: RingbellError): void
  /** The answer is larger than we take, or than there is memory for. */
  tooLarge(error: RingbellError): void
}

/** A request that is being handled here. */
export interface InHand {
  cancel(): void
  credit(chunks: number): void
  /** Who asked is gone. */
  lost(): void
}

/** What a link needs of its endpoint. */
export interface LinkHost {
  readonly hot: NativeChannelHot
  request(link: Link, flags: number, id: number, aux: number, data: Uint8Array): void
  message(link: Link, data: Uint8Array): void
  /** Jobs or bytes of messages. */
  credit(link: Link, amount: number): void
  goodbye(link: Link): void
  /** A request came, or began to, and no handler will be called for it: it is larger than we take, or was given up. */
  refused(link: Link): void
  /** The outbox is not empty, or somebody waits for room. */
  blocked(link: Link): void
  /** The peer broke a rule. */
  breach(link: Link, rule: string): void
  /** The binding found that it did, or that nothing can be sent to it any more. */
  fault(link: Link, error: unknown): void
  /** Something that arrived could not be dealt with, and nobody else is told. */
  mistake(link: Link, error: unknown): void
}

/** A large message on its way in. */
export interface Arrival {
  readonly head: number
  readonly id: number
  readonly aux: number
  readonly target: Uint8Array
  filled: number
}

/** Somebody who waits for room for a plain message or for credit. */
interface RoomSeeker extends Waiting {
  readonly bytes: number
}

type Sent = (error?: RingbellError) => void

const HIGHEST_ID = 2 ** 30 - 1

export class Link {
  readonly number: number
  readonly peer: PeerInfo
  readonly calls = new Map<number, Pending>()
  readonly requests = new Map<number, InHand>()
  /** Set when it has ended; nothing is sent any more. */
  gone: RingbellError | undefined = undefined
  /** The other side takes no new requests. */
  leaving = false
  arrival: Arrival | undefined = undefined
  /** Its end was told: what may still be at hand of it is nobody's any more. */
  over = false
  /** What the owner keeps with it. */
  owner: unknown = undefined
  /** Those who wait until a large message is on its way; told if it never will be. */
  readonly writers = new Set<Waiting>()
  readonly #host: LinkHost
  readonly #hot: NativeChannelHot
  readonly #outbox: Outbox
  readonly #seekers = new Fifo<RoomSeeker>()
  readonly #clear = new Condition(() => this.#outbox.empty || this.gone !== undefined)
  #nextId = 1
  #ordinal = 0
  /** The largest that goes at once; what is larger goes in pieces. */
  readonly #largest: number
  #credit = MESSAGE_WINDOW
  #unread = 0
  #taken = 0

  constructor(host: LinkHost, number: number, peer: PeerInfo, largest: number) {
    this.#host = host
    this.#hot = host.hot
    this.number = number
    this.peer = peer
    this.#largest = largest
    this.#outbox = new Outbox(host.hot, number)
  }

  /** What waits for room. */
  get unsent(): number {
    return this.#outbox.size
  }

  /** Resolves when nothing waits for room any more, or never will. */
  whenClear(): Promise<void> {
    return this.#clear.wait()
  }

  /** Asks; `false`: the link is gone. `own`: nobody changes the bytes while they are sent. */
  ask(pending: Pending, flags: number, aux: number, data: Uint8Array, own: boolean): boolean {
    let id = this.#nextId
    while (this.calls.has(id)) id = id === HIGHEST_ID ? 1 : id + 1
    this.#nextId = id === HIGHEST_ID ? 1 : id + 1
    pending.id = id
    const head = KIND.request | (flags << FLAGS_AT)
    if (this.#now(head, id, aux, data)) pending.ordinal = this.#ordinal
    else if (this.gone !== undefined) return false
    else {
      pending.ordinal = 0
      let failed = false
      this.#queue(head, id, aux, data, own, (error) => {
        if (error === undefined) {
          pending.sent(this.#ordinal)
          return
        }
        failed = true
        this.calls.delete(id)
        pending.fail(error)
      })
      if (failed) return true
      // The end was found on the way. Another server may take it, unless this one may have it already.
      if (this.gone !== undefined && pending.ordinal === 0) return false
      if (this.over) {
        // Later: who asks does not know yet where it went.
        queueMicrotask(() => pending.lost(true, reason(this.gone)))
        return true
      }
    }
    this.calls.set(id, pending)
    return true
  }

  /** Who asked is not interested any more. `flags` are those of the request. `true`: the other side has seen nothing of it, and never will. */
  callOff(pending: Pending, flags: number): boolean {
    if (!this.calls.delete(pending.id) || this.gone !== undefined) return false
    const { arrival } = this
    if (arrival?.id === pending.id && isAnswer(arrival.head & 0xff)) {
      // Its memory is the caller's again.
      this.skipLarge()
    }
    if (pending.ordinal === 0 && this.#takeBack(KIND.request | (flags << FLAGS_AT), pending.id)) return true
    // Where it had begun, this is also how the other side finds out that no more of it comes.
    this.post(KIND.cancel, pending.id, 0, EMPTY, true)
    return false
  }

  /**
   * Sends now (`true`), or as soon as there is room, and then `sent` is called; to a link that is gone, never. It is called with
   * an error when the bytes of a large message were changed meanwhile; where that was a reply, its caller has been told.
   *
   * @throws {RingbellError} `ERR_RINGBELL_INVALID_OPTION` when `data` is no memory that can be read. Nothing for what is our own.
   */
  post(head: number, id: number, aux: number, data: Uint8Array, own: boolean, sent?: Sent): boolean {
    if (this.#now(head, id, aux, data)) return true
    if (this.gone === undefined) this.#queue(head, id, aux, data, own, sent)
    return false
  }

  /** Answers a request that is larger than we take, or than there is memory for; it is not read. */
  refuse(id: number, error: RingbellError): void {
    this.post(KIND.error, id, 0, encodeError(error), true)
    this.#host.refused(this)
  }

  /** A plain message, if there is room and credit for it right now. */
  message(data: Uint8Array): boolean {
    if (this.#credit <= 0 || !this.#now(KIND.message, 0, 0, data)) return false
    this.#credit -= data.byteLength + HEADER_BYTES
    return true
  }

  /** The same for one of any size, once there is credit; `sent` when all of it is on its way, or with an error. */
  postMessage(data: Uint8Array, own: boolean, sent: Sent): void {
    this.#credit -= data.byteLength + HEADER_BYTES
    if (this.post(KIND.message, 0, 0, data, own, sent)) sent()
  }

  /** Whether a plain message of so many bytes must go in pieces. */
  isLarge(bytes: number): boolean {
    return bytes > this.#largest
  }

  /** Resolves when there is room and credit for a message of so many bytes, in order; rejects when the link is gone. */
  room(bytes: number, signal?: AbortSignal): Promise<void> {
    return waitFor(
      (waiting) => {
        if (this.gone !== undefined) throw this.gone
        const seeker: RoomSeeker = { bytes, ...waiting }
        this.#seekers.push(seeker)
        if (!this.#serve() && this.gone === undefined) this.#host.blocked(this)
        return () => void this.#seekers.take((one) => one === seeker)
      },
      { signal },
    )
  }

  /** A reader took bytes of a message. */
  tookMessage(bytes: number): void {
    const cost = bytes + HEADER_BYTES
    this.#unread -= cost
    this.#taken += cost
    if (this.#taken < MESSAGE_WINDOW / 2) return
    this.post(KIND.credit, 0, this.#taken, EMPTY, true)
    this.#taken = 0
  }

  /** A plain message was not taken in: its sender's credit comes back all the same. */
  passOver(bytes: number): void {
    this.#unread += bytes + HEADER_BYTES
    this.tookMessage(bytes)
  }

  /** Goes on with the large message that arrives; how many of its bytes are in `target` by now, `LARGE_GONE` when no more will come. */
  readLarge({ id, target }: Arrival): number {
    if (this.gone !== undefined) return LARGE_GONE
    try {
      return this.#hot.drainLarge(this.number, target)
    } catch (error) {
      const call = this.calls.get(id)
      if (call === undefined || !isOfBytes(error)) {
        this.#fault(error)
        return LARGE_GONE
      }
      // A caller's own memory, which may have been transferred meanwhile.
      this.calls.delete(id)
      this.skipLarge()
      call.lost(true, `the memory that its reply was to be received into cannot be used: ${reason(error)}`)
      return LARGE_GONE
    }
  }

  /** The sender of a large message gave it up. It came, as far as credit is concerned. */
  givenUp({ head, target }: Arrival): void {
    const kind = head & 0xff
    if (kind === KIND.request) this.#host.refused(this)
    else if (kind === KIND.message) this.passOver(target.byteLength)
  }

  /** Drops the large message that arrives. */
  skipLarge(): void {
    this.arrival = undefined
    if (this.gone !== undefined) return
    try {
      this.#hot.skipLarge(this.number)
    } catch (error) {
      this.#fault(error)
    }
  }

  /**
   * One message that arrived. Never throws: what users and peers can bring about is dealt with by those who are told of it, and
   * should one of them throw after all, what came with it is delivered none the less.
   */
  receive(head: number, id: number, aux: number, data: Uint8Array): void {
    try {
      this.#dispatch(head, id, aux, data)
    } catch (error) {
      this.#host.mistake(this, error)
    }
  }

  #dispatch(head: number, id: number, aux: number, data: Uint8Array): void {
    const kind = head & 0xff
    switch (kind) {
      case KIND.reply: {
        const call = this.calls.get(id)
        if (call === undefined) return
        this.calls.delete(id)
        call.reply(head >>> FLAGS_AT, data)
        return
      }
      case KIND.request:
        this.#host.request(this, head >>> FLAGS_AT, id, aux, data)
        return
      case KIND.chunk:
        this.calls.get(id)?.chunk(data)
        return
      case KIND.error:
      case KIND.end: {
        const call = this.calls.get(id)
        this.calls.delete(id)
        if (kind === KIND.end) call?.end()
        else call?.error(head >>> FLAGS_AT, data)
        return
      }
      case KIND.cancel: {
        const request = this.requests.get(id)
        this.requests.delete(id)
        request?.cancel()
        return
      }
      case KIND.credit:
        if (id === 0) this.#host.credit(this, aux)
        else this.requests.get(id)?.credit(aux)
        return
      case KIND.message:
        this.#messageArrived(data)
        return
      case KIND.goodbye:
        this.leaving = true
        this.#host.goodbye(this)
        return
      default:
      // A later version's: of a kind that may be ignored, or it would have been negotiated.
    }
  }

  /** More plain messages may be sent. */
  addCredit(bytes: number): void {
    this.#credit = Math.min(MESSAGE_WINDOW, this.#credit + bytes)
    if (!this.#serve() && this.gone === undefined) this.#host.blocked(this)
  }

  /** Tries what waits for room; `true` when nothing does any more. */
  flush(): boolean {
    if (this.gone !== undefined) return true
    try {
      if (!this.#outbox.flush()) return false
      this.#clear.check()
      return this.#serve()
    } catch (error) {
      this.#fault(error)
      return true
    }
  }

  /** Asks to be woken when there is room; `false` when there is some by now. */
  armRoom(): boolean {
    if (this.gone !== undefined) return true
    const bytes = this.#outbox.empty ? (this.#seekers.peek()?.bytes ?? 0) : this.#outbox.wanted
    try {
      return this.#hot.armRoom(this.number, bytes)
    } catch (error) {
      this.#fault(error)
      return true
    }
  }

  /** It has ended; the peer has taken `delivered` of our messages, as far as is known. */
  end(error: RingbellError, delivered: number): void {
    this.gone ??= error
    this.over = true
    this.#outbox.clear()
    this.arrival = undefined
    const calls = [...this.calls.values()]
    this.calls.clear()
    const why = this.gone.message
    for (const call of calls) call.lost(call.ordinal > 0 && call.ordinal <= delivered, why)
    const requests = [...this.requests.values()]
    this.requests.clear()
    for (const request of requests) request.lost()
    for (let seeker = this.#seekers.shift(); seeker !== undefined; seeker = this.#seekers.shift())
      seeker.reject(this.gone)
    for (const writer of this.writers) writer.reject(this.gone)
    this.#clear.check()
  }

  #takeBack(head: number, id: number): boolean {
    try {
      return this.#outbox.remove(head, id)
    } catch (error) {
      this.#fault(error)
      return true
    }
  }

  /** Sends if nothing is ahead and there is room. */
  #now(head: number, id: number, aux: number, data: Uint8Array): boolean {
    if (this.gone !== undefined || data.byteLength > this.#largest || !this.#outbox.empty) return false
    try {
      if (this.#hot.send(this.number, head, id, aux, data) !== 1) return false
      this.#ordinal++
      return true
    } catch (error) {
      if (isOfBytes(error)) throw fromNative(error)
      this.#fault(error)
      return false
    }
  }

  #queue(head: number, id: number, aux: number, data: Uint8Array, own: boolean, sent?: Sent): void {
    const large = data.byteLength > this.#largest
    const frame: Frame = {
      head,
      id,
      aux,
      data: own && large ? data : copied(data),
      bytes: data.byteLength,
      done: large ? 0 : -1,
      begun: false,
      sent: (error?: RingbellError): void => {
        if (error === undefined) this.#ordinal++
        else this.#givenUp(frame, error)
        sent?.(error)
      },
    }
    this.#outbox.push(frame)
    // A large one is begun at once; whatever waits for room already is ahead of it.
    if (!this.flush()) this.#host.blocked(this)
  }

  /** A frame whose bytes were changed. */
  #givenUp({ head, id, bytes, begun }: Frame, error: RingbellError): void {
    const kind = head & 0xff
    // The other side gives the credit back for what it saw begin.
    if (kind === KIND.message && !begun) this.#credit += bytes + HEADER_BYTES
    // It finds out by the next message that no more comes of what had begun, so there must be a next one. For a chunk its owner sees to that.
    if (kind === KIND.reply) this.post(KIND.error, id, 0, encodeError(error), true)
    else if (kind !== KIND.chunk) this.post(KIND.cancel, id, 0, EMPTY, true)
  }

  /** What the binding says of the peer, or of the connection to it, ends this link and nothing else. */
  #fault(error: unknown): void {
    const { code } = error as { code?: unknown }
    // The core tells more about its end in a notice.
    if (code === 'ERR_RINGBELL_PEER_GONE' || code === 'ERR_RINGBELL_CLOSED')
      this.gone ??= fromNative(error) as RingbellError
    else this.#host.fault(this, error)
  }

  /** Those who wait for room and credit, in order; `true` when nobody waits for room. */
  #serve(): boolean {
    for (let seeker = this.#seekers.peek(); seeker !== undefined; seeker = this.#seekers.peek()) {
      // Credit comes by a message, not by room.
      if (this.#credit <= 0) return true
      if (!this.#outbox.empty) return false
      if (seeker.bytes <= this.#largest && !this.#hasRoom(seeker.bytes)) return false
      // A fault told them all.
      if (this.over) return true
      this.#seekers.shift()
      seeker.resolve()
    }
    return true
  }

  #hasRoom(bytes: number): boolean {
    try {
      return this.#hot.hasRoom(this.number, bytes)
    } catch (error) {
      this.#fault(error)
      return true
    }
  }

  #messageArrived(data: Uint8Array): void {
    if (this.#unread + this.#taken >= MESSAGE_WINDOW) {
      this.#host.breach(this, 'it sent more messages than it had credit for')
      return
    }
    this.#unread += data.byteLength + HEADER_BYTES
    this.#host.message(this, data)
  }
}

export function isAnswer(kind: number): boolean {
  return kind === KIND.reply || kind === KIND.chunk
}

/** `slice()` would not do: a Buffer's makes a view. */
export function copied(data: Uint8Array): Uint8Array {
  return new Uint8Array(data)
}
