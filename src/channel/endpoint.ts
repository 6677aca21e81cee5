/**
 * One endpoint of the core with all its connections. It drains, gives what arrived to its link, and waits. One wait serves all
 * connections, so a thousand of them cost an iteration of the event loop no more than one; only links that wait for room are visited. After
 * something came it polls again in a promise job, behind those who were answered. So a reply is delivered where it is found, until the time slice is used up.
 */
import type { Fallback, RecordJson, Rung } from '../bus/service.js'
import { debug } from '../diagnostics.js'
import { asRingbellError, closedError, RingbellError, type RingbellErrorCode, translated } from '../errors.js'
import { DRAIN_LARGE, DRAIN_NEEDS_SLAB, type NativeChannel, type NativeChannelHot, TABLE_WORDS } from '../native.js'
import { Slabs } from '../slabs.js'
import { type WaitOption, WaitPolicy } from '../wait/policy.js'
import { poller, type Poller } from '../wait/poller.js'
import { TimeSlice } from '../wait/time-slice.js'
import { type Awaited, Waiter } from '../wait/waiter.js'
import { Arrivals } from './arrivals.js'
import { BlockedLinks } from './blocked-links.js'
import { type EndReason, Link, type LinkHost } from './link.js'
import { HEADER_BYTES, KIND } from './wire.js'

/** A connection came into being. */
export interface OpenedNotice {
  type: 'opened'
  connection: number
  pid: number
  uid: number
  rung: Rung
  fallbacks?: Fallback[]
  record?: RecordJson
}

interface CoreError {
  code: RingbellErrorCode
  message: string
  syscall?: string
  errno?: string
}

type Notice =
  | OpenedNotice
  | {
      type: 'closed'
      connection: number
      reason: EndReason
      error?: CoreError
      /** How many of our messages the peer has taken, where that is known. */
      delivered?: number
    }
  | { type: 'failed'; connection: number; error: CoreError }
  | { type: 'fds'; connection: number }

/** Whose endpoint it is. But for `request`, none of these may run code of users. */
export interface EndpointHost {
  /** What users know it as. */
  readonly what: string
  /** The largest message that is taken; a larger one is dropped, and the wait for it fails. */
  readonly maxMessage: number
  opened(link: Link, notice: OpenedNotice): void
  ended(link: Link, reason: EndReason, error: RingbellError): void
  /** A connection could not be made. */
  unconnected(connection: number, error: RingbellError): void
  request(link: Link, flags: number, id: number, aux: number, data: Uint8Array): void
  message(link: Link, data: Uint8Array): void
  credit(link: Link, amount: number): void
  goodbye(link: Link): void
  /** A request came, or began to, and no handler will be called for it. */
  refused?(link: Link): void
  /** Descriptors can be received. */
  fds(link: Link): void
  /** Something went wrong with one connection, and no call is told of it. */
  failed(error: RingbellError, link: Link): void
  /** The endpoint itself fails, and closes. */
  broken(error: RingbellError): void
}

const HIGH_WORD = 2 ** 32
/** Such an id could not be given back as it came. */
const ID_TOO_LARGE = 'it sent an id above 2^53 - 1'
/** Its jobs cost a third of what Node's `queueMicrotask` does. */
const RESOLVED = Promise.resolve()

export class Endpoint implements Awaited, LinkHost {
  readonly native: NativeChannel
  readonly hot: NativeChannelHot
  readonly maxMessage: number
  readonly #host: EndpointHost
  readonly #drain: NativeChannelHot['drain']
  readonly #scratch: Float64Array
  readonly #table: Uint32Array
  readonly #poller: Poller
  readonly #id: number
  readonly #policy: WaitPolicy
  readonly #waiter: Waiter
  readonly #timeSlice = new TimeSlice()
  readonly #slabs = new Slabs()
  readonly #links = new Map<number, Link>()
  readonly #pollJob = (): void => this.#pollAgain()
  #words: Uint32Array = new Uint32Array(0)
  #wordsOf: Uint8Array | undefined
  #lastLink: Link | undefined
  /** What is drained and not handed on. */
  #drained = 0
  #of: Link | undefined
  readonly #arrivals: Arrivals
  readonly #blocked = new BlockedLinks()
  #wants = 0
  /** Requests that are being handled. */
  #inHand = 0
  #soon = false
  /** Woken while nobody waits: everything is taken in. */
  #sweeping = false
  #fresh: NodeJS.Immediate | undefined
  #closed = false

  constructor(native: NativeChannel, host: EndpointHost, wait: WaitOption | undefined) {
    this.native = native
    this.hot = native.hot()
    this.maxMessage = host.maxMessage
    this.#host = host
    this.#drain = this.hot.drain
    this.#scratch = native.scratch
    this.#table = native.table
    this.#arrivals = new Arrivals(this.hot, host.maxMessage, (error, link) => host.failed(error, link))
    this.#poller = poller()
    this.#policy = new WaitPolicy(wait)
    this.#waiter = new Waiter(this, this.#policy, this.#poller)
    this.#id = translated(() => this.#poller.add(native, { wake: () => this.#wake() }))
    this.#timeSlice.begin()
  }

  get closed(): boolean {
    return this.#closed
  }

  get links(): ReadonlyMap<number, Link> {
    return this.#links
  }

  /** Whether waiting keeps the process alive. */
  set referenced(referenced: boolean) {
    this.#waiter.referenced = referenced
  }

  /** Somebody waits for something to arrive, until as many calls of `unwant`. */
  want(): void {
    this.#wants++
    this.#pollSoon()
  }

  unwant(): void {
    if (--this.#wants > 0) return
    // Poll once more: what a drain took in beside a message (the end of a connection) wakes nobody any more. A call that
    // comes before that finds the wait as it is.
    this.#sweeping = true
    this.#pollSoon()
  }

  /** A request is being handled: until it is answered there is no hurry to look for the next. */
  taken(): void {
    this.#inHand++
  }

  answered(): void {
    if (--this.#inHand === 0 && this.#wants > 0) this.#pollSoon()
  }

  disconnect(link: Link): void {
    this.#disconnect(link, 'closed')
  }

  /** Ends every connection, and the endpoint. */
  close(error: RingbellError): void {
    if (this.#closed) return
    this.#closed = true
    this.#waiter.stop()
    clearImmediate(this.#fresh)
    this.#blocked.clear()
    try {
      this.#poller.remove(this.#id)
      for (const link of this.#links.values()) this.#ended(link, 'closed', error, Infinity)
    } finally {
      this.#links.clear()
      translated(() => this.native.close())
    }
  }

  // What links say.

  request(link: Link, flags: number, id: number, aux: number, data: Uint8Array): void {
    this.#host.request(link, flags, id, aux, data)
  }

  message(link: Link, data: Uint8Array): void {
    this.#host.message(link, data)
  }

  credit(link: Link, amount: number): void {
    this.#host.credit(link, amount)
  }

  goodbye(link: Link): void {
    this.#host.goodbye(link)
  }

  refused(link: Link): void {
    this.#host.refused?.(link)
  }

  blocked(link: Link): void {
    this.#blocked.add(link)
    if (this.#wants === 0 && !this.#sweeping) this.#armBlocked()
    else this.#pollSoon()
  }

  breach(link: Link, rule: string): void {
    this.fault(
      link,
      new RingbellError(
        'ERR_RINGBELL_CORRUPT_PEER',
        `Process ${link.peer.pid} broke the protocol (${rule}) and was disconnected.`,
      ),
    )
  }

  fault(link: Link, error: unknown): void {
    if (link.over) return
    const told = this.#toldAs(error)
    link.gone ??= told
    this.#host.failed(told, link)
    try {
      this.#disconnect(link, 'failed')
    } catch (second) {
      // Whoever found the fault is not to blame, and has been told of it.
      debug('disconnecting a failed connection: %s', second)
    }
  }

  mistake(link: Link, error: unknown): void {
    this.#host.failed(this.#toldAs(error), link)
  }

  // What the waiter asks.

  poll(iterations: number): boolean {
    return this.#fetch(iterations) || this.#blocked.flush()
  }

  arm(): boolean {
    if (this.#blocked.arm() && this.hot.arm()) return true
    this.#blocked.retryArmed()
    return false
  }

  ready(): void {
    this.#timeSlice.begin()
    this.#handOn()
  }

  failed(error: unknown): void {
    const told = this.#toldAs(error)
    this.#host.broken(told)
    this.close(told)
  }

  #toldAs(error: unknown): RingbellError {
    return asRingbellError(error, this.#host.what)
  }

  #disconnect(link: Link, reason: EndReason): void {
    if (this.#closed || link.over) return
    try {
      translated(() => this.native.disconnect(link.number))
    } finally {
      this.#forget(link, reason, link.gone ?? closedError('connection'), Infinity)
    }
  }

  #wake(): void {
    if (this.#closed) return
    this.#timeSlice.begin()
    this.#blocked.retryArmed()
    if (this.#wants > 0) {
      this.#waiter.wake()
      return
    }
    this.#sweeping = true
    this.#pollSoon()
  }

  #pollSoon(): void {
    if (this.#soon || this.#closed || (this.#wants === 0 && !this.#sweeping)) return
    this.#soon = true
    void RESOLVED.then(this.#pollJob)
  }

  #pollAgain(): void {
    this.#soon = false
    if (this.#closed || this.#fresh !== undefined) return
    if (this.#wants === 0 && !this.#sweeping) return
    if (this.#timeSlice.due()) {
      this.#fresh = setImmediate(() => this.#begin())
      return
    }
    try {
      if (this.#fetch(this.#inHand === 0 && this.#wants > 0 ? this.#waiter.glance : 0)) {
        this.#handOn()
        return
      }
      this.#blocked.flush()
      this.#rest()
    } catch (error) {
      this.failed(error)
    }
  }

  /** A fresh macrotask, after the turn was used up. */
  #begin(): void {
    this.#fresh = undefined
    this.#timeSlice.begin()
    this.#pollAgain()
  }

  /** Nothing is there. */
  #rest(): void {
    this.#sweeping = false
    if (this.#wants === 0) {
      this.#waiter.stop()
      this.#blocked.retryArmed()
      this.#armBlocked()
      return
    }
    const waiter = this.#waiter
    if (!waiter.waiting) {
      waiter.start()
    } else if (this.#policy.lively || this.#blocked.retryable) {
      // A wait that sleeps was not as lively as this, or did not know of those who wait for room.
      waiter.stop()
      waiter.start()
    } else {
      // Draining may have taken the very ring that was to wake it: it has to arm anew.
      waiter.wake()
    }
  }

  /** Nobody waits for what arrives: the doorbell is for those who wait for room. */
  #armBlocked(): void {
    if (this.#blocked.arm()) return
    // Somebody gets room again and again, and the doorbell does not ring for that one.
    this.#sweeping = true
    this.#pollSoon()
  }

  /** Drains once, after up to so many pause instructions; `true` when there is something to hand on, or more to fetch. */
  #fetch(iterations: number): boolean {
    if (this.#arrivals.goOn()) return true
    const slabs = this.#slabs
    const scratch = this.#scratch
    for (;;) {
      slabs.prepare()
      const count = this.#drain(slabs.bytes, slabs.fill, iterations)
      if (count > 0) {
        this.#of = this.#link(scratch[0] as number)
        this.#drained = count
        slabs.used(scratch[1] as number)
        return true
      }
      if (count === 0) return false
      if (count === DRAIN_NEEDS_SLAB) slabs.renew(scratch[0] as number)
      else if (count === DRAIN_LARGE) return this.#largeOne()
      else this.#notices()
    }
  }

  /** Hands on what is there, and looks for more soon, whatever became of it. */
  #handOn(): void {
    try {
      if (!this.#arrivals.handOn()) this.#handOnDrained()
    } finally {
      this.#pollSoon()
    }
  }

  /** Gives what is drained to its link. Handlers run in here. */
  #handOnDrained(): void {
    const count = this.#drained
    const link = this.#of
    this.#drained = 0
    if (count === 0 || link === undefined) return
    const { bytes } = this.#slabs
    const { buffer, byteOffset } = bytes
    const words = this.#wordsOf === bytes ? this.#words : this.#view(bytes)
    const table = this.#table
    const end = count * TABLE_WORDS
    for (let at = 0; at < end && !link.over; at += TABLE_WORDS) {
      const offset = table[at] as number
      const length = table[at + 1] as number
      if (length < HEADER_BYTES) {
        this.breach(link, 'it sent a message without a header')
        return
      }
      const word = offset >>> 2
      const head = (words[word] as number) & 0xffff
      const id = (words[word + 2] as number) + (words[word + 3] as number) * HIGH_WORD
      if (!Number.isSafeInteger(id)) {
        this.breach(link, ID_TOO_LARGE)
        return
      }
      // Why something failed is told whatever its length: else its caller would wait for ever.
      if (length - HEADER_BYTES > this.maxMessage && (head & 0xff) !== KIND.error) {
        this.#arrivals.refuse(link, head, id, length - HEADER_BYTES)
        continue
      }
      link.receive(
        head,
        id,
        words[word + 1] as number,
        new Uint8Array(buffer, byteOffset + offset + HEADER_BYTES, length - HEADER_BYTES),
      )
    }
  }

  #view(bytes: Uint8Array): Uint32Array {
    this.#wordsOf = bytes
    return (this.#words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength >>> 2))
  }

  /** Hot: nearly always asked for the same one again. */
  #link(number: number): Link | undefined {
    const last = this.#lastLink
    if (last !== undefined && last.number === number) return last
    return (this.#lastLink = this.#links.get(number))
  }

  #largeOne(): boolean {
    const [connection = 0, bytes = 0, head = 0, id = 0, aux = 0] = this.#scratch
    const link = this.#links.get(connection)
    if (link === undefined || Number.isSafeInteger(id))
      return this.#arrivals.begin(connection, link, bytes, head, id, aux)
    this.breach(link, ID_TOO_LARGE)
    return true
  }

  #notices(): void {
    const json = this.native.notices()
    if (json === '') return
    for (const notice of JSON.parse(json) as Notice[]) this.#note(notice)
  }

  #note(notice: Notice): void {
    if (debug.enabled) debug('%s: %o', this.#host.what, { ...notice, record: undefined })
    const { type, connection } = notice
    if (type === 'opened') {
      const largest = this.native.maxMessage(connection)
      const link = new Link(this, connection, { pid: notice.pid, uid: notice.uid }, largest)
      this.#links.set(connection, link)
      this.#host.opened(link, notice)
      return
    }
    if (type === 'failed') {
      this.#host.unconnected(connection, errorOf(notice.error))
      return
    }
    const link = this.#links.get(connection)
    if (link === undefined) return
    if (type === 'fds') this.#host.fds(link)
    else {
      const { reason, error, delivered } = notice
      this.#forget(link, reason, error === undefined ? endOf(link, reason) : errorOf(error), delivered ?? Infinity)
    }
  }

  #forget(link: Link, reason: EndReason, error: RingbellError, delivered: number): void {
    this.#links.delete(link.number)
    if (this.#lastLink === link) this.#lastLink = undefined
    this.#ended(link, reason, error, delivered)
  }

  #ended(link: Link, reason: EndReason, error: RingbellError, delivered: number): void {
    this.#blocked.forget(link)
    this.#arrivals.forget(link)
    link.end(error, delivered)
    this.#host.ended(link, reason, link.gone ?? error)
  }
}

function errorOf({ code, message, ...details }: CoreError): RingbellError {
  return new RingbellError(code, message, details)
}

function endOf(link: Link, reason: EndReason): RingbellError {
  const { pid } = link.peer
  const words = {
    closed: `Process ${pid} closed the connection.`,
    died: `Process ${pid}, at the other end of the connection, died.`,
    failed: `The connection to process ${pid} failed.`,
  }
  return new RingbellError('ERR_RINGBELL_PEER_GONE', words[reason])
}
