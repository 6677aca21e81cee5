/**
 * One call in flight, on the caller's side: a promise that is settled once, by the reply, an error, the timeout, the
 * signal, or the end of the connection or the client. It knows whether the other side can have seen it. That decides
 * between `ERR_RINGBELL_NOT_SENT` and `ERR_RINGBELL_OUTCOME_UNKNOWN`.
 */
import { withMismatch } from '../bus/kind-mismatch.js'
import type { PayloadCodec } from '../codec/payload-codec.js'
import { joined } from '../codec/bytes.js'
import { type AbortError, RingbellError } from '../errors.js'
import { headersBehind, type MessageHeaders } from '../headers.js'
import { onAbort } from '../wait/abort.js'
import { Deadline } from '../wait/deadlines.js'
import { replyTooLarge } from './arrivals.js'
import type { CallDispatcher, Dispatchable } from './call-dispatcher.js'
import type { Link, Pending } from './link.js'
import { decodeError, rejection } from './remote-error.js'
import { HEADERS_IN_FLAGS, NOT_BEGUN, NOT_PRIMARY, NOT_REACHED, RETRIED, TERM_OVER, VOID } from './wire.js'

/** The most tries of a call that may be made again. */
const MOST_TRIES = 4

type Resolve = (value: unknown) => void
type Reject = (error: unknown) => void

let resolveOf: Resolve
let rejectOf: Reject

/** It is shared, because a closure for each call would be the most expensive part of the call. */
function grab(resolve: Resolve, reject: Reject): void {
  resolveOf = resolve
  rejectOf = reject
}

export class Call implements Pending, Dispatchable {
  readonly promise: Promise<unknown>
  id = 0
  ordinal = 0
  instance: string | undefined = undefined
  readonly #dispatcher: CallDispatcher
  readonly #payloads: PayloadCodec
  /** The request as given. It is encoded again if the call is made again. */
  readonly #request: unknown
  /** The bytes of the request, if it was encoded before there was a connection. */
  #encoded: Uint8Array | undefined = undefined
  readonly #resolve: Resolve
  readonly #reject: Reject
  #link: Link | undefined = undefined
  /** In which it was sent. */
  #epoch = 0
  #settled = false
  #timeout = 0
  #idempotent = false
  #flags: number
  #tries = 0
  #into: Uint8Array | undefined = undefined
  /** The bytes of the request's headers. */
  #headers: Uint8Array | undefined = undefined
  #heard: ((headers: MessageHeaders) => void) | undefined = undefined
  #deadline: Deadline | undefined = undefined
  #forget: (() => void) | undefined = undefined

  constructor(dispatcher: CallDispatcher, payloads: PayloadCodec, request: unknown, flags = 0) {
    this.promise = new Promise(grab)
    this.#resolve = resolveOf
    this.#reject = rejectOf
    this.#dispatcher = dispatcher
    this.#payloads = payloads
    this.#request = request
    this.#flags = flags
  }

  /** Sets the signal and the timeout, in milliseconds from now; 0: no timeout. */
  limit(timeout: number, signal: AbortSignal | undefined): void {
    if (timeout > 0) {
      this.#timeout = Math.min(2 ** 31, Math.ceil(timeout))
      this.#deadline = new Deadline(timeout, () => this.#expire())
    }
    if (signal !== undefined) this.#forget = onAbort(signal, (error) => this.#abort(error))
  }

  /** Sets the memory for the reply. */
  into(target: Uint8Array): void {
    this.#into = target
  }

  /** Sets the headers of the request, as bytes. */
  head(headers: Uint8Array): void {
    this.#headers = headers
    this.#flags |= headers.byteLength << HEADERS_IN_FLAGS
  }

  /** Passes the headers of the reply to `heard`, before the call resolves. */
  hear(heard: (headers: MessageHeaders) => void): void {
    this.#heard = heard
  }

  /** Allows another try if it is unknown whether it was handled. */
  repeatable(): void {
    this.#idempotent = true
  }

  get settled(): boolean {
    return this.#settled
  }

  get endless(): boolean {
    return this.#deadline === undefined && this.#forget === undefined
  }

  prepare(): void {
    if (this.#settled) return
    try {
      this.#encoded ??= this.#payloads.encodeKept(this.#request)
    } catch (error) {
      this.#fail(error)
    }
  }

  sendOn(link: Link): boolean {
    try {
      const headers = this.#headers
      const request = this.#encoded ?? this.#payloads.encode(this.#request)
      const data = headers === undefined ? request : joined(request, headers)
      if (!link.ask(this, this.#flags, this.#timeout, data, headers !== undefined || this.#payloads.own)) return false
    } catch (error) {
      this.#fail(error)
      return true
    }
    this.#link = link
    this.#epoch = this.#dispatcher.epoch
    this.#tries++
    return true
  }

  fail(error: unknown): void {
    this.#fail(error)
  }

  sent(ordinal: number): void {
    this.ordinal = ordinal
  }

  reply(flags: number, data: Uint8Array): void {
    if (this.#settled) return
    const payloads = this.#payloads
    try {
      this.#heard?.(headersBehind(data, flags >>> HEADERS_IN_FLAGS))
      if ((flags & VOID) !== 0) {
        this.#succeed(payloads.nothing)
        return
      }
      const value = payloads.decode(this.#into === undefined ? data : this.#put(this.#into, data))
      if (payloads.replies === undefined) this.#succeed(value)
      else this.#dispatcher.whenChecked(this, payloads.reply(value), (checked) => this.#succeed(checked))
    } catch (error) {
      this.#fail(error)
    }
  }

  error(flags: number, data: Uint8Array): void {
    // The handler was not called, so another server may handle it.
    if ((flags & NOT_BEGUN) !== 0 && this.#again()) return
    if ((flags & NOT_PRIMARY) !== 0 && this.#dispatcher.refusedBy(this.#link, this.#epoch)) {
      this.#tries--
      if (this.#again()) return
    }
    if ((flags & (TERM_OVER | NOT_REACHED)) !== 0) {
      this.lost((flags & TERM_OVER) !== 0, decodeError(data).message)
      return
    }
    if (!this.#settled) this.#succeed(rejection(data))
  }

  chunk(): void {
    if (this.#settled) return
    this.#link?.callOff(this, this.#flags)
    this.#fail(new RingbellError('ERR_RINGBELL_STREAM', 'The handler answers with a stream; use client.stream().'))
  }

  end(): void {
    this.#fail(new RingbellError('ERR_RINGBELL_STREAM', 'The handler answered with a stream; use client.stream().'))
  }

  lost(reached: boolean, why: string): void {
    if (this.#settled) return
    if (!reached && this.#dispatcher.resends && this.#again()) return
    if (this.#idempotent && this.#tries < MOST_TRIES) {
      if (reached) this.#flags |= RETRIED
      if (this.#again()) return
    }
    this.#fail(this.#dispatcher.closedError() ?? outcome(reached, why))
  }

  target(bytes: number): Uint8Array | undefined {
    const into = this.#into
    if (into === undefined || into.byteLength < bytes) return undefined
    // The `subarray` of a subclass would run user code.
    return new Uint8Array(into.buffer, into.byteOffset, bytes)
  }

  tooLarge(error: RingbellError): void {
    this.#fail(error)
  }

  #put(into: Uint8Array, data: Uint8Array): Uint8Array {
    if (data.byteLength > into.byteLength) throw replyTooLarge(data.byteLength, into.byteLength)
    // A large reply was received into this memory.
    if (data.buffer !== into.buffer || data.byteOffset !== into.byteOffset) into.set(data)
    return into.subarray(0, data.byteLength)
  }

  #again(): boolean {
    if (this.#settled) return true
    this.#link = undefined
    this.ordinal = 0
    return this.#dispatcher.redispatch(this)
  }

  #expire(): void {
    this.#giveUp(
      new RingbellError('ERR_RINGBELL_TIMEOUT', `No reply within ${this.#timeout} ms${this.#where()}.`, {
        cause: outcome(this.ordinal > 0, 'its timeout has expired'),
      }),
    )
  }

  #abort(error: AbortError): void {
    this.#giveUp(this.#link === undefined ? withMismatch(error, this.#dispatcher.reason) : error)
  }

  #where(): string {
    if (this.#link !== undefined) return this.ordinal === 0 ? ': it was not sent' : ''
    const { reason } = this.#dispatcher
    return `: no server is connected${reason === undefined ? '' : ` (${reason})`}`
  }

  #giveUp(error: unknown): void {
    if (this.#settled) return
    this.#link?.callOff(this, this.#flags)
    this.#fail(error)
  }

  /** Resolves first, so that the caller runs before the endpoint polls again. */
  #succeed(value: unknown): void {
    this.#settled = true
    this.#resolve(value)
    this.#settle()
  }

  #fail(error: unknown): void {
    if (this.#settled) return
    this.#settle()
    this.#reject(error)
  }

  #settle(): void {
    this.#settled = true
    this.#deadline?.cancel()
    this.#forget?.()
    this.#dispatcher.done(this)
  }
}

export function outcome(reached: boolean, why: string): RingbellError {
  return reached
    ? new RingbellError('ERR_RINGBELL_OUTCOME_UNKNOWN', `It is unknown whether the call was handled: ${why}`)
    : new RingbellError('ERR_RINGBELL_NOT_SENT', `The call reached no handler: ${why}`)
}
