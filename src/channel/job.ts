/**
 * One message of a work queue, until it is acknowledged, given up or taken back. It knows which worker has it and how
 * often that was tried. The queue (queue.ts) decides where it goes next. Its deadline is first the delay before it is
 * assigned, then the time that the worker has.
 */
import { EMPTY } from '../codec/bytes.js'
import { RingbellError } from '../errors.js'
import { Deadline } from '../wait/deadlines.js'
import type { Waiting } from '../wait/waiting.js'
import type { Link, Pending } from './link.js'
import { decodeError, type RemoteError } from './remote-error.js'
import { HEADERS_IN_FLAGS, NOT_BEGUN, RESULT, RETRIED, VOID } from './wire.js'

/** What the queue is told. `link`: the worker that had it, if there was one. */
export interface JobHost {
  /** Milliseconds that a worker has for a message; 0: no limit. */
  readonly timeout: number
  acknowledged(job: Job, link: Link | undefined): void
  /** The worker failed, or is gone (`lost`), while it had the message. That counts as an attempt. */
  refused(job: Job, link: Link | undefined, error: RingbellError | RemoteError, lost: boolean): void
  /** No worker has seen the message. */
  returned(job: Job, link: Link | undefined): void
  /** A message of `bytes` bytes was taken back before this worker saw it. The worker gets another when there is room for it. */
  unsent(link: Link, bytes: number): void
}

/** What a worker gets. */
export interface JobContent {
  /** The message, and the headers behind it. */
  readonly data: Uint8Array
  /** How many bytes of it are headers. */
  readonly headers: number
}

export class Job implements Pending, JobContent {
  id = 0
  ordinal = 0
  attempts = 0
  /** A worker was lost while it had this message. */
  apart = false
  readonly data: Uint8Array
  readonly headers: number
  /** It has its result, or never gets one. */
  over = false
  /** Who waits for its result, if anyone does: the worker's answer, `undefined` if the handler returned nothing. */
  readonly outcome: Waiting<Uint8Array | undefined> | undefined
  readonly #host: JobHost
  #link: Link | undefined
  #flags = 0
  #deadline: Deadline | undefined

  constructor(host: JobHost, { data, headers }: JobContent, outcome?: Waiting<Uint8Array | undefined>) {
    this.#host = host
    this.data = data
    this.headers = headers
    this.outcome = outcome
  }

  /** Calls `then` after so many milliseconds, unless the job is taken back before. */
  pause(ms: number, then: () => void): void {
    this.#deadline = new Deadline(ms, () => {
      this.#deadline = undefined
      then()
    })
  }

  sendOn(link: Link): boolean {
    const { timeout } = this.#host
    const flags = (this.attempts > 0 ? RETRIED : 0) | (this.outcome === undefined ? 0 : RESULT)
    this.#flags = flags | (this.headers << HEADERS_IN_FLAGS)
    if (!link.ask(this, this.#flags, Math.ceil(timeout), this.data, true)) return false
    this.attempts++
    this.#link = link
    if (timeout > 0) this.#deadline = new Deadline(timeout, () => this.#late(timeout))
    return true
  }

  /** Nobody wants it any more. Returns the worker that had it. */
  takeBack(): Link | undefined {
    this.over = true
    const link = this.#release()
    if (link?.callOff(this, this.#flags) === true) this.#host.unsent(link, this.data.byteLength)
    return link
  }

  /** It is given up, or the queue has ended. */
  failed(error: unknown): void {
    this.over = true
    this.#release()
    this.outcome?.reject(error)
  }

  sent(ordinal: number): void {
    this.ordinal = ordinal
  }

  reply(flags: number, data: Uint8Array): void {
    this.#done()
    this.outcome?.resolve((flags & VOID) === 0 ? data : undefined)
  }

  error(flags: number, data: Uint8Array): void {
    const link = this.#release()
    if ((flags & NOT_BEGUN) === 0) this.#host.refused(this, link, decodeError(data), false)
    else this.#back(link)
  }

  chunk(): void {}

  end(): void {
    this.reply(VOID, EMPTY)
  }

  lost(reached: boolean, why: string): void {
    const link = this.#release()
    if (reached)
      this.#host.refused(
        this,
        link,
        new RingbellError('ERR_RINGBELL_OUTCOME_UNKNOWN', `The worker was lost before it acknowledged: ${why}`),
        true,
      )
    else this.#back(link)
  }

  target(): undefined {
    return undefined
  }

  fail(error: RingbellError): void {
    this.#host.refused(this, this.#release(), error, false)
  }

  /** The worker has done it, and its result is above our limit. */
  tooLarge(error: RingbellError): void {
    this.#done()
    this.outcome?.reject(error)
  }

  #done(): void {
    this.over = true
    this.#host.acknowledged(this, this.#release())
  }

  /** No worker has seen it, so this does not count as an attempt. */
  #back(link: Link | undefined): void {
    this.attempts--
    this.#host.returned(this, link)
  }

  #late(timeout: number): void {
    const link = this.#link
    if (link?.callOff(this, this.#flags) !== true) {
      this.fail(new RingbellError('ERR_RINGBELL_TIMEOUT', `The worker did not acknowledge it within ${timeout} ms.`))
      return
    }
    this.#back(this.#release())
    this.#host.unsent(link, this.data.byteLength)
  }

  /** The worker that had it. */
  #release(): Link | undefined {
    const link = this.#link
    this.#deadline?.cancel()
    this.#deadline = undefined
    this.#link = undefined
    return link
  }
}
