/**
 * One endpoint of the core with all its connections. It drains, passes what arrived to its link, and waits. One wait
 * serves all connections, so a thousand of them cost an iteration of the event loop no more than one; only links that
 * wait for room are visited. After a message it polls again in a promise job, which runs after the jobs of the callers
 * that got their answers. So replies are delivered without a new macrotask until the time slice is used up.
 */
import { AsyncResource } from 'node:async_hooks'
import type { Fallback, RecordJson, Rung } from '../bus/service.js'
import { inSteps } from '../closing.js'
import { debug } from '../diagnostics.js'
import { asRingbellError, closedError, type CoreError, errorOf, RingbellError, translated } from '../errors.js'
import { DRAIN_LARGE, DRAIN_NEEDS_SLAB, type NativeChannel, type NativeChannelHot, TABLE_WORDS } from '../native.js'
import { Slabs } from '../slabs.js'
import { caughtUp, fellBehind } from '../wait/last-look.js'
import { type WaitOption, WaitPolicy } from '../wait/policy.js'
import { poller, type Poller } from '../wait/poller.js'
import { TimeSlice } from '../wait/time-slice.js'
import { type Awaited, Waiter } from '../wait/waiter.js'
import { Arrivals } from './arrivals.js'
import { BlockedLinks } from './blocked-links.js'
import { type EndReason, Link, type LinkHost } from './link.js'
import { HEADER_BYTES, KIND } from './wire.js'

/** A connection is open. */
export interface OpenedNotice {
  type: 'opened'
  connection: number
  pid: number
  uid: number
  rung: Rung
  fallbacks?: Fallback[]
  record?: RecordJson
}

type Notice =
  | OpenedNotice
  | {
      type: 'closed'
      connection: number
      reason: EndReason
      error?: CoreError
      /** How many of our messages the peer has taken, if that is known. */
      delivered?: number
    }
  | { type: 'failed'; connection: number; error: CoreError }
  | { type: 'fds'; connection: number }

/** The owner of an endpoint. Except for `request`, none of these methods may run user code. */
export interface EndpointHost {
  /** Its name in error texts. */
  readonly what: string
  /** The largest message in bytes that is accepted. A larger one is dropped, and the wait for it fails. */
  readonly maxMessage: number
  opened(link: Link, notice: OpenedNotice): void
  ended(link: Link, reason: EndReason, error: RingbellError): void
  /** A connection could not be made. */
  unconnected(connection: number, error: RingbellError): void
  request(link: Link, flags: number, id: number, aux: number, data: Uint8Array): void
  message(link: Link, data: Uint8Array, headers: number): void
  credit(link: Link, amount: number): void
  goodbye(link: Link): void
  /** A request came or began to come, and no handler will be called for it. */
  refused?(link: Link): void
  /** Descriptors can be received. */
  fds(link: Link): void
  /** Something failed on one connection, and no call gets that error. */
  failed(error: RingbellError, link: Link): void
  /** The endpoint itself fails, and closes. */
  broken(error: RingbellError): void
}

const HIGH_WORD = 2 ** 32
/** A JavaScript number could not carry such an id back unchanged. */
const ID_TOO_LARGE = 'it sent an id above 2^53 - 1'
/** A job of its `then` costs a third of one of `queueMicrotask` in Node. */
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
  /** The context in which the endpoint was made. Entered once for all that was drained, because for each request it would cost too much. */
  readonly #scope = new AsyncResource('RINGBELL_ENDPOINT', { requireManualDestroy: true })
  readonly #deliver = (): void => {
    if (!this.#arrivals.handOn()) this.#handOnDrained()
  }
  #words: Uint32Array = new Uint32Array(0)
  #wordsOf: Uint8Array | undefined
  #lastLink: Link | undefined
  /** Messages that are drained and not delivered. */
  #drained = 0
  #of: Link | undefined
  readonly #arrivals: Arrivals
  readonly #blocked = new BlockedLinks()
  #wants = 0
  /** Requests that are being handled. */
  #inHand = 0
  #soon = false
  /** It was woken while nothing is awaited: it polls until nothing more is there. */
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
    this.#id = this.#poller.add(native, { wake: () => this.#wake() })
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

  /** Something is awaited, until `unwant` was called as often. */
  want(): void {
    this.#wants++
    this.#pollSoon()
  }

  unwant(): void {
    if (--this.#wants > 0) return
    // Poll once more: a drain may have taken in more than a message (the end of a connection), and nothing would wake
    // us for that. A call that comes before this poll finds the wait as it is.
    this.#sweeping = true
    this.#pollSoon()
  }

  /** A request is being handled. Until it is answered, polls for the next one do not spin. */
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
    if (this.#fresh !== undefined) {
      clearImmediate(this.#fresh)
      this.#fresh = undefined
      caughtUp()
    }
    this.#blocked.clear()
    const links = [...this.#links.values()]
    inSteps(
      () => this.#poller.remove(this.#id),
      ...links.map((link) => () => this.#ended(link, 'closed', error, Infinity)),
      () => this.#links.clear(),
      () => this.native.close(),
    )
  }

  // Calls from links.

  request(link: Link, flags: number, id: number, aux: number, data: Uint8Array): void {
    this.#host.request(link, flags, id, aux, data)
  }

  message(link: Link, data: Uint8Array, headers: number): void {
    this.#host.message(link, data, headers)
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
      // The caller has reported the fault itself, so this second error is only logged.
      debug('disconnecting a failed connection: %s', second)
    }
  }

  mistake(link: Link, error: unknown): void {
    this.#host.failed(this.#toldAs(error), link)
  }

  // Calls from the waiter.

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
      fellBehind()
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

  /** Continues in a fresh macrotask, after the time slice was used up. */
  #begin(): void {
    this.#fresh = undefined
    caughtUp()
    this.#timeSlice.begin()
    this.#pollAgain()
  }

  /** Nothing more is there: waits, if something is awaited. */
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
      // The wait that sleeps began when messages came less quickly, or before a link waited for room.
      waiter.stop()
      waiter.start()
    } else {
      // Draining may have used up the wake-up that the wait sleeps for, so it must arm again.
      waiter.wake()
    }
  }

  /** No call waits for what arrives, so the doorbell is only for calls that wait for room. */
  #armBlocked(): void {
    if (this.#blocked.arm()) return
    // A link gets room again and again, and the doorbell does not ring for it.
    this.#sweeping = true
    this.#pollSoon()
  }

  /** Drains once, after up to `iterations` pause instructions. `true` when there is something to deliver, or more to fetch. */
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

  /** Delivers what is there, and polls again soon, even after an exception. */
  #handOn(): void {
    try {
      this.#scope.runInAsyncScope(this.#deliver)
    } finally {
      this.#pollSoon()
    }
  }

  /** Passes the drained messages to their link. Handlers run inside of this call. */
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
      // Kind and flags; and from the frame before, how many bytes of headers lie behind the message.
      const head = ((words[word] as number) & 0xffff) | ((words[word - 1] as number) & 0xffff_0000)
      const id = (words[word + 2] as number) + (words[word + 3] as number) * HIGH_WORD
      if (!Number.isSafeInteger(id)) {
        this.breach(link, ID_TOO_LARGE)
        return
      }
      // An error reply has no size limit here. Otherwise its caller would wait without an end.
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

  /** Hot: nearly every call asks for the same link as the last one. */
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

function endOf(link: Link, reason: EndReason): RingbellError {
  const { pid } = link.peer
  const words = {
    closed: `Process ${pid} closed the connection.`,
    died: `Process ${pid}, at the other end of the connection, died.`,
    failed: `The connection to process ${pid} failed.`,
  }
  return new RingbellError('ERR_RINGBELL_PEER_GONE', words[reason])
}
