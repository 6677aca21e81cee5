/**
 * One connection, seen from inside. It sends messages, and passes on what arrives by its kind. Both sides use the same
 * class: the link of a server mostly has requests in hand, that of a client has calls in flight, and in a work queue it
 * is the other way round. A peer that breaks the rules of docs/protocol.md is disconnected. The only user code that
 * runs from here is request handlers.
 *
 * Every call of the binding about one connection is made here or in its outbox. Any of these calls can find that the
 * peer broke a rule or is gone. `#fault` then ends the link. Such an error is never thrown into a handler, a queue, a
 * timer or a loop.
 */
import { copied, EMPTY } from '../codec/bytes.js'
import { fromNative, reason, type RingbellError } from '../errors.js'
import { LARGE_GONE, type NativeChannelHot } from '../native.js'
import { Fifo } from '../wait/fifo.js'
import { Condition } from '../wait/condition.js'
import { type Waiting, waitFor } from '../wait/waiting.js'
import { isOfBytes, Outbox, type Frame } from './outbox.js'
import { encodeFailure, encodeRefusal } from './remote-error.js'
import { FLAGS_AT, HEADER_BYTES, HEADERS_AT, KIND, MESSAGE_WINDOW, NOT_PRIMARY, TERM_OVER } from './wire.js'

/** The process at the other end. */
export interface PeerInfo {
  /** Its process id in our pid namespace; 0 if it is in another one. */
  readonly pid: number
  /** Its user. */
  readonly uid: number
}

/** Why a connection has ended. */
export type EndReason = 'closed' | 'died' | 'failed'

/** A request that waits for its answer. None of these methods may throw. */
export interface Pending {
  id: number
  /** The number of this message among all that were sent; 0 while it waits for room. */
  ordinal: number
  /** It left the outbox as message number `ordinal`. */
  sent(ordinal: number): void
  reply(flags: number, data: Uint8Array): void
  error(flags: number, data: Uint8Array): void
  chunk(data: Uint8Array): void
  end(): void
  /** The connection is gone. `reached`: the other side may have seen the request. */
  lost(reached: boolean, why: string): void
  /** Memory for a large answer, if the caller has given some. */
  target(bytes: number): Uint8Array | undefined
  /** The request cannot be sent, or its error reply cannot be received. */
  fail(error: RingbellError): void
  /** The answer is above the limit, or there is no memory for it. */
  tooLarge(error: RingbellError): void
}

/** A request that is being handled here. */
export interface InHand {
  cancel(): void
  credit(chunks: number): void
  /** The caller is gone. */
  lost(): void
  /** It may not be answered any more. */
  disown(reason: RingbellError): void
}

/** What a link needs from its endpoint. */
export interface LinkHost {
  readonly hot: NativeChannelHot
  request(link: Link, flags: number, id: number, aux: number, data: Uint8Array): void
  /** `headers`: how many bytes of them lie behind the data. */
  message(link: Link, data: Uint8Array, headers: number): void
  /** More jobs, or more bytes of plain messages, may be sent. */
  credit(link: Link, amount: number): void
  goodbye(link: Link): void
  /** A request came or began to come, and no handler will be called for it: it is above the limit, or was given up. */
  refused(link: Link): void
  /** The outbox is not empty, or a call waits for room. */
  blocked(link: Link): void
  /** The peer broke a rule. */
  breach(link: Link, rule: string): void
  /** The binding found that the peer broke a rule, or that nothing can be sent to it any more. */
  fault(link: Link, error: unknown): void
  /** A message that arrived caused an exception, and no call gets that error. */
  mistake(link: Link, error: unknown): void
}

/** A large message that is arriving. */
export interface Arrival {
  readonly head: number
  readonly id: number
  readonly aux: number
  readonly target: Uint8Array
  filled: number
}

/** A call that waits for room and credit for a plain message. */
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
  /** Handlers that run for it (places.ts), also those of requests that were given up. */
  running = 0
  /** Set when it has ended; nothing is sent any more. */
  gone: RingbellError | undefined = undefined
  /** The other side takes no new requests. */
  leaving = false
  arrival: Arrival | undefined = undefined
  /** Its end was reported. Drained messages of it are dropped. */
  over = false
  /** The object that the owner keeps with it. */
  owner: unknown = undefined
  /** Calls that wait until their message is sent. They are rejected if that cannot happen any more. */
  readonly writers = new Set<Waiting>()
  readonly #host: LinkHost
  readonly #hot: NativeChannelHot
  readonly #outbox: Outbox
  readonly #seekers = new Fifo<RoomSeeker>()
  readonly #clear = new Condition(() => this.#outbox.empty || this.gone !== undefined)
  #nextId = 1
  #ordinal = 0
  /** The most bytes of a message that goes in one piece. A larger one goes in pieces. */
  readonly largest: number
  #credit = MESSAGE_WINDOW
  #unread = 0
  #taken = 0
  /** Answers that are kept back, if the other side is doubted. */
  #kept: [head: number, id: number, aux: number, data: Uint8Array][] | undefined
  #doubt: NodeJS.Timeout | undefined

  constructor(host: LinkHost, number: number, peer: PeerInfo, largest: number) {
    this.#host = host
    this.#hot = host.hot
    this.number = number
    this.peer = peer
    this.largest = largest
    this.#outbox = new Outbox(host.hot, number)
  }

  /** The number of messages that wait for room. */
  get unsent(): number {
    return this.#outbox.size
  }

  /** Resolves when no message waits for room any more, or the link is gone. */
  whenClear(): Promise<void> {
    return this.#clear.wait()
  }

  /** Sends a request. `false`: the link is gone. `own`: the bytes do not change while they are sent. */
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
      // The send has found the end of the link. Another server may handle the request, unless this one may have it already.
      if (this.gone !== undefined && pending.ordinal === 0) return false
      if (this.over) {
        // Later: the caller does not know yet which link has the request.
        queueMicrotask(() => pending.lost(true, reason(this.gone)))
        return true
      }
    }
    this.calls.set(id, pending)
    return true
  }

  /** Cancels a request. `flags` are those of the request. `true`: the other side has not seen any of it, and never will. */
  callOff(pending: Pending, flags: number): boolean {
    if (!this.calls.delete(pending.id) || this.gone !== undefined) return false
    const { arrival } = this
    if (arrival?.id === pending.id && isAnswer(arrival.head & 0xff)) {
      // The memory for the answer belongs to the caller again.
      this.skipLarge()
    }
    if (pending.ordinal === 0 && this.#takeBack(KIND.request | (flags << FLAGS_AT), pending.id)) return true
    // If a large request had begun, this also tells the other side that no more of it comes.
    this.post(KIND.cancel, pending.id, 0, EMPTY, true)
    return false
  }

  /**
   * Another process is primary now. Until it is known whether the one at the other end has noticed, its answers are kept back: `trust`
   * delivers them. After these milliseconds, or when the link ends, they count for nothing, and the calls are given up.
   */
  suspect(milliseconds: number, why: string): void {
    if (this.#kept !== undefined || this.gone !== undefined) return
    this.#kept = []
    this.#doubt = setTimeout(() => this.#giveUp(why), milliseconds).unref()
  }

  /** The process at the other end has noticed: what it has answered counts. */
  trust(): void {
    const kept = this.#kept
    this.#endDoubt()
    for (const answer of kept ?? []) this.receive(...answer)
  }

  #endDoubt(): void {
    clearTimeout(this.#doubt)
    this.#kept = undefined
  }

  /** The other side may handle the calls nevertheless. */
  #giveUp(why: string): void {
    this.#endDoubt()
    const calls = [...this.calls.values()]
    for (const call of calls) {
      this.calls.delete(call.id)
      if (this.arrival?.id === call.id && isAnswer(this.arrival.head & 0xff)) this.skipLarge()
      this.post(KIND.cancel, call.id, 0, EMPTY, true)
    }
    for (const call of calls) call.lost(true, why)
  }

  /**
   * Sends now (`true`), or as soon as there is room; then it calls `sent`. On a link that is gone it never calls
   * `sent`. `sent` gets an error if the bytes of a large message were changed meanwhile, or are more than a message can
   * have. If that was a reply, its caller gets an error, too.
   *
   * @throws {RingbellError} `ERR_RINGBELL_INVALID_OPTION` when `data` is memory that cannot be read. It never throws
   * for memory of our own.
   */
  post(head: number, id: number, aux: number, data: Uint8Array, own: boolean, sent?: Sent): boolean {
    if (this.#now(head, id, aux, data)) return true
    if (this.gone === undefined) this.#queue(head, id, aux, data, own, sent)
    return false
  }

  /** Answers a request that is above the limit, or for which there is no memory. The request is not read. */
  refuse(id: number, error: RingbellError): void {
    this.post(KIND.error, id, 0, encodeRefusal(error), true)
    this.#host.refused(this)
  }

  /** Sends a plain message if there is room and credit for it now. The last `headers` bytes of the data are its headers. */
  message(data: Uint8Array, headers: number): boolean {
    if (this.#credit <= 0 || !this.#now(KIND.message | (headers << HEADERS_AT), 0, 0, data)) return false
    this.#credit -= data.byteLength + HEADER_BYTES
    return true
  }

  /**
   * Sends a plain message of any size. Call it when there is credit. `sent` is called when all of it is sent, or with
   * an error.
   */
  postMessage(data: Uint8Array, headers: number, own: boolean, sent: Sent): void {
    this.#credit -= data.byteLength + HEADER_BYTES
    if (this.post(KIND.message | (headers << HEADERS_AT), 0, 0, data, own, sent)) sent()
  }

  /** Whether a plain message of so many bytes must go in pieces. */
  isLarge(bytes: number): boolean {
    return bytes > this.largest
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

  /** A reader took a message of so many bytes: its sender gets the credit back. */
  tookMessage(bytes: number): void {
    const cost = bytes + HEADER_BYTES
    this.#unread -= cost
    this.#taken += cost
    if (this.#taken < MESSAGE_WINDOW / 2) return
    this.post(KIND.credit, 0, this.#taken, EMPTY, true)
    this.#taken = 0
  }

  /** A plain message was dropped: its sender gets the credit back all the same. */
  passOver(bytes: number): void {
    this.#unread += bytes + HEADER_BYTES
    this.tookMessage(bytes)
  }

  /**
   * Reads more of the large message that arrives. Returns how many of its bytes are in `target` now, or `LARGE_GONE` if
   * no more will come.
   */
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
      // This is memory of the caller, which may have been transferred meanwhile.
      this.calls.delete(id)
      this.skipLarge()
      call.lost(true, `the memory for its reply cannot be used: ${reason(error)}`)
      return LARGE_GONE
    }
  }

  /** The sender gave up a large message. For credit it counts as received. */
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
   * Dispatches one message that arrived. It never throws. Receivers handle errors themselves; if one throws
   * nevertheless, the messages that came with this one are still delivered.
   */
  receive(head: number, id: number, aux: number, data: Uint8Array): void {
    if (this.#kept !== undefined && id !== 0) {
      // One that refuses has noticed.
      if ((head & 0xff) !== KIND.error || ((head >>> FLAGS_AT) & (NOT_PRIMARY | TERM_OVER)) === 0) {
        this.#kept.push([head, id, aux, kept(data, head >>> HEADERS_AT)])
        return
      }
      this.trust()
    }
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
        this.#messageArrived(data, head >>> HEADERS_AT)
        return
      case KIND.goodbye:
        this.leaving = true
        this.#host.goodbye(this)
        return
      default:
      // A kind of a later version. It may be ignored, or else it would have been negotiated.
    }
  }

  /** More plain messages may be sent. */
  addCredit(bytes: number): void {
    this.#credit = Math.min(MESSAGE_WINDOW, this.#credit + bytes)
    if (!this.#serve() && this.gone === undefined) this.#host.blocked(this)
  }

  /** Tries to send what waits for room. `true` when nothing waits any more. */
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

  /** Asks to be woken when there is room. `false`: there is room now. */
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

  /** The link has ended. The peer has taken `delivered` of our messages, as far as that is known. */
  end(error: RingbellError, delivered: number): void {
    this.gone ??= error
    this.over = true
    this.#endDoubt()
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

  /** Sends if no message waits before this one, and there is room. */
  #now(head: number, id: number, aux: number, data: Uint8Array): boolean {
    if (this.gone !== undefined || data.byteLength > this.largest || !this.#outbox.empty) return false
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
    const large = data.byteLength > this.largest
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
    // A large message begins at once, unless others wait for room before it.
    if (!this.flush()) this.#host.blocked(this)
  }

  /** A frame was given up, because its bytes were changed or are too many. */
  #givenUp({ head, id, bytes, begun }: Frame, error: RingbellError): void {
    const kind = head & 0xff
    // If the other side has seen it begin, it gives the credit back itself.
    if (kind === KIND.message && !begun) this.#credit += bytes + HEADER_BYTES
    // The other side learns from the next message that no more of this one comes, so there must be a next one. For a
    // chunk its owner sends that.
    if (kind === KIND.reply) this.post(KIND.error, id, 0, encodeFailure(error), true)
    else if (kind !== KIND.chunk) this.post(KIND.cancel, id, 0, EMPTY, true)
  }

  /** An error of the binding about the peer, or about the connection to it, ends only this link. */
  #fault(error: unknown): void {
    const { code } = error as { code?: unknown }
    // The core reports details of the end in a notice.
    if (code === 'ERR_RINGBELL_PEER_GONE' || code === 'ERR_RINGBELL_CLOSED')
      this.gone ??= fromNative(error) as RingbellError
    else this.#host.fault(this, error)
  }

  /** Serves the calls that wait for room and credit, in order. `true` when none of them waits for room. */
  #serve(): boolean {
    for (let seeker = this.#seekers.peek(); seeker !== undefined; seeker = this.#seekers.peek()) {
      // Credit comes with a message, not with room.
      if (this.#credit <= 0) return true
      if (!this.#outbox.empty) return false
      if (seeker.bytes <= this.largest && !this.#hasRoom(seeker.bytes)) return false
      // A fault has rejected them all.
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

  #messageArrived(data: Uint8Array, headers: number): void {
    if (this.#unread + this.#taken >= MESSAGE_WINDOW) {
      this.#host.breach(this, 'it sent more messages than it had credit for')
      return
    }
    this.#unread += data.byteLength + headers + HEADER_BYTES
    this.#host.message(this, data, headers)
  }
}

/** A copy that has the headers behind it, as the original has. */
function kept(data: Uint8Array, headers: number): Uint8Array {
  const { byteLength } = data
  return copied(new Uint8Array(data.buffer, data.byteOffset, byteLength + headers)).subarray(0, byteLength)
}

export function isAnswer(kind: number): boolean {
  return kind === KIND.reply || kind === KIND.chunk
}
