/**
 * A work queue. Each message goes to one worker and is kept until that worker acknowledges it. If the worker dies,
 * leaves, fails or takes too long, the message goes to another one, marked as redelivered. The queue assigns the
 * messages, so no two workers hold one message at the same time while both are known to live. The queue is in the
 * memory of this process: its messages end with the process.
 *
 * A message waits, is delayed (its `delay`, or the pause before its next attempt) or is assigned. `run` also gives its
 * result to the caller. A message that was given up becomes a dead letter (dead-letters.ts).
 *
 * When a worker is lost, any of the messages that it had may be the reason. From then on these are kept apart: a worker
 * has at most one of them at a time. So a message that ends its worker costs every other message at most one attempt.
 */
import type { Service } from '../bus/service.js'
import { copied, joined } from '../codec/bytes.js'
import type { PayloadCodec } from '../codec/payload-codec.js'
import { closedError, RingbellError } from '../errors.js'
import { encodeHeaders, headersBehind, type MessageHeaders } from '../headers.js'
import { outgoing } from '../tracer.js'
import { checkSignal, type SignalOptions, throwIfAborted } from '../wait/abort.js'
import { type BackoffOptions, pauseAfter } from '../wait/backoff.js'
import { Condition } from '../wait/condition.js'
import { waitFor } from '../wait/waiting.js'
import { tellCounters } from './about.js'
import { Assignment } from './assignment.js'
import type { Connection } from './connection.js'
import { type DeadLetter, DeadLetters } from './dead-letters.js'
import { Job, type JobContent, type JobHost } from './job.js'
import { EndpointOwner, type Life, type LifeHost, type LifeParts } from './life.js'
import type { EndReason } from './link.js'
import { checkPush, checkRun, type PushOptions, type RunOptions } from './options.js'
import { connectionOf } from './peers.js'
import type { RemoteError } from './remote-error.js'
import type { QueueStats } from './stats.js'
import { ABOUT } from './wire.js'

/** The events of a queue. There are none after `close()`. */
export interface QueueEvents<T> {
  /** A worker has connected. */
  connected: [worker: Connection<T>]
  /** A worker has gone. Messages that it did not acknowledge go to others. */
  disconnected: [worker: Connection<T>, reason: EndReason]
  /**
   * A message was given up after its last attempt. `error` is the error of the last worker, or says why the outcome is
   * unknown. The letter is for `retry` and `discard`. There is no event for a message of `run`, whose caller gets the error.
   */
  deadLetter: [value: T, error: RingbellError | RemoteError, letter: DeadLetter<T>]
  /** A worker broke the protocol and was disconnected. Without a worker: the queue itself is broken and closed. */
  failed: [error: RingbellError, worker: Connection<T> | undefined]
}

/** @internal What a bus passes to the constructor. */
export interface QueueParts extends LifeParts {
  readonly limit: number
  readonly attempts: number
  readonly timeout: number
  readonly backoff: BackoffOptions | undefined
  readonly deadLetters: number
}

/** A work queue: each message goes to one worker until it is acknowledged; `bus.queue()` makes it. */
export class Queue<T = Uint8Array> extends EndpointOwner<QueueEvents<T>> {
  readonly #life: Life
  readonly #payloads: PayloadCodec
  readonly #limit: number
  readonly #attempts: number
  readonly #backoff: BackoffOptions | undefined
  readonly #jobs = new Assignment()
  readonly #deadLetters: DeadLetters
  readonly #jobHost: JobHost
  readonly #room = new Condition(() => this.size < this.#limit)
  readonly #drained = new Condition(() => this.size === 0)
  /** Waits of `close({ grace })`. The end of the queue resolves them as well. */
  readonly #idle = new Condition(() => this.size === 0)
  #pushed = 0
  #acknowledged = 0
  #failed = 0
  #withdrawn = 0

  /** @internal Use `bus.queue()`. */
  constructor(parts: QueueParts) {
    super()
    this.#payloads = parts.payloads
    this.#limit = parts.limit
    this.#attempts = parts.attempts
    this.#backoff = parts.backoff
    this.#deadLetters = new DeadLetters(parts.deadLetters)
    this.#jobHost = this.#hostOfJobs(parts.timeout)
    this.#life = this.live('queue', parts, this.#host())
    // It always waits for workers, but only messages keep the process alive.
    this.#life.needed = false
    this.#life.endpoint.want()
    this.#life.begin()
  }

  /** This queue as others see it. */
  get service(): Service {
    return this.#life.service
  }

  /** The workers that are connected. */
  get workers(): Connection<T>[] {
    return this.#life.peers.all as Connection<T>[]
  }

  /** Messages that are not acknowledged yet. */
  get size(): number {
    return this.#jobs.size
  }

  /**
   * Accepts a message, which is copied. `false`: it was not accepted, because `limit` messages are without an
   * acknowledgement. Wait for `ready()` and push it again. Messages without an acknowledgement keep the process alive.
   *
   * @throws {RingbellError} `ERR_RINGBELL_CODEC`, `ERR_RINGBELL_SCHEMA`, `ERR_RINGBELL_INVALID_OPTION`, `ERR_RINGBELL_CLOSED`.
   */
  push(value: T, options?: PushOptions): boolean {
    if (options !== undefined) checkPush(options)
    this.#life.assertOpen()
    if (this.size >= this.#limit) return false
    this.#accept(
      new Job(this.#jobHost, contentOf(this.#payloads.encodeMessage(value), outgoing(options?.headers))),
      options?.delay,
    )
    return true
  }

  /**
   * Pushes a message and resolves with what the worker's handler returned. It waits for room first, as `ready()` does; do not
   * change the value before. The signal takes
   * the message back: no worker gets it any more, and the signal of a handler that has it fires. A result that the codec of the worker
   * cannot encode is a failed attempt.
   *
   * Rejects with the error of the last attempt (a `RemoteError` if the handler threw, `ERR_RINGBELL_OUTCOME_UNKNOWN`,
   * `ERR_RINGBELL_TIMEOUT`), and the message is no dead letter; `ERR_RINGBELL_CODEC`, `ERR_RINGBELL_SCHEMA`, `ERR_RINGBELL_MESSAGE_TOO_LARGE` (of the result),
   * `ERR_RINGBELL_INVALID_OPTION`, `ERR_RINGBELL_CLOSED`, or an `AbortError`.
   */
  async run<R = unknown>(value: T, options: RunOptions = {}): Promise<R> {
    checkRun(options)
    const { delay, signal } = options
    // The context of the caller, not that in which there is room.
    const headers = outgoing(options.headers)
    throwIfAborted(signal)
    this.#life.assertOpen()
    while (this.size >= this.#limit) {
      await this.#room.wait({ signal })
      throwIfAborted(signal)
    }
    // Not before there is room: what waits for it would not count for `limit`.
    const content = contentOf(this.#payloads.encodeMessage(value), headers)
    const result = await waitFor<Uint8Array | undefined>(
      (waiting) => {
        this.#life.assertOpen()
        const job = new Job(this.#jobHost, content, waiting)
        this.#accept(job, delay)
        return () => this.#withdraw(job)
      },
      { signal },
    )
    return (result === undefined ? this.#payloads.nothing : this.#payloads.decode(result)) as R
  }

  /** Messages that were given up after their last attempt, the oldest first. They stay until they are retried or discarded. */
  get deadLetters(): DeadLetter<T>[] {
    return this.#deadLetters.all as DeadLetter<T>[]
  }

  /**
   * Pushes the message of a dead letter again, with all its attempts, and removes the letter. `false`: it was not accepted, as with
   * `push`, and the letter stays. It keeps its headers, unless there are others in the options.
   *
   * @throws {RingbellError} `ERR_RINGBELL_NOT_FOUND` if the letter is not in `deadLetters` any more; `ERR_RINGBELL_CLOSED`.
   */
  retry(letter: DeadLetter<T>, options?: PushOptions): boolean {
    if (options !== undefined) checkPush(options)
    this.#life.assertOpen()
    const content = this.#deadLetters.contentOf(letter)
    if (content === undefined)
      throw new RingbellError(
        'ERR_RINGBELL_NOT_FOUND',
        'This is no dead letter of this queue, or no longer: it was retried, discarded or dropped. Take one from queue.deadLetters.',
      )
    if (this.size >= this.#limit) return false
    const { delay, headers } = options ?? {}
    const renewed = headers === undefined ? content : contentOf(payloadOf(content), headers)
    this.#deadLetters.take(letter)
    this.#accept(new Job(this.#jobHost, renewed), delay)
    return true
  }

  /** Removes a dead letter. `false`: it is not in `deadLetters` any more. */
  discard(letter: DeadLetter<T>): boolean {
    return this.#deadLetters.take(letter)
  }

  /** Resolves when another message would be accepted. Rejects with `ERR_RINGBELL_CLOSED` or an `AbortError`. */
  async ready(options: SignalOptions = {}): Promise<void> {
    checkSignal(options)
    throwIfAborted(options.signal)
    this.#life.assertOpen()
    await this.#room.wait(options)
  }

  /** Resolves when every message has been acknowledged, given up or withdrawn, also while the queue closes. Rejects as `ready` does. */
  async drained(options: SignalOptions = {}): Promise<void> {
    checkSignal(options)
    throwIfAborted(options.signal)
    this.#life.assertNotClosed()
    await this.#drained.wait(options)
    // A listener of `deadLetter` may have tried the last message again.
    while (this.size > 0) await this.#drained.wait(options)
  }

  /** Replaces the record's metadata; others see `updated`. */
  update(metadata: Record<string, unknown>): void {
    this.#life.update(metadata)
  }

  /** Counters of this queue. @throws {RingbellError} `ERR_RINGBELL_CLOSED`. */
  stats(): QueueStats {
    return {
      workers: this.#life.peers.size,
      waiting: this.#jobs.waiting,
      delayed: this.#jobs.delayed,
      assigned: this.#jobs.assigned,
      pushed: this.#pushed,
      acknowledged: this.#acknowledged,
      redelivered: this.#jobs.redelivered,
      failed: this.#failed,
      withdrawn: this.#withdrawn,
      deadLetters: this.#deadLetters.size,
      deadLettersDropped: this.#deadLetters.dropped,
      core: this.#life.coreStats,
    }
  }

  #accept(job: Job, delay: number | undefined): void {
    this.#pushed++
    this.#jobs.put(job, delay)
    this.#keepAlive()
    this.#jobs.go()
  }

  /** Its caller waits no more. */
  #withdraw(job: Job): void {
    if (job.over) return
    this.#jobs.remove(job)
    this.#withdrawn++
    this.#changed()
    this.#jobs.go()
  }

  #hostOfJobs(timeout: number): JobHost {
    return {
      timeout,
      acknowledged: (job, link) => {
        this.#jobs.takeFrom(job, link)
        this.#acknowledged++
        this.#changed()
        // This worker may get a message that is kept apart.
        this.#jobs.go()
      },
      refused: (job, link, error, lost) => {
        this.#jobs.takeFrom(job, link)
        if (this.#life.closed !== undefined) return
        job.apart ||= lost
        if (job.attempts >= this.#attempts) this.#giveUp(job, error)
        else this.#jobs.put(job, this.#backoff && pauseAfter(job.attempts, this.#backoff))
        this.#changed()
        this.#jobs.go()
      },
      unsent: (link, bytes) => {
        link.room(bytes).then(
          () => this.#jobs.credit(link, 1),
          () => {},
        )
      },
      returned: (job, link) => {
        this.#jobs.takeFrom(job, link)
        if (this.#life.closed !== undefined) return
        this.#jobs.putBack(job)
        this.#jobs.go()
      },
    }
  }

  #giveUp(given: Job, error: RingbellError | RemoteError): void {
    this.#failed++
    if (given.outcome !== undefined) {
      given.failed(error)
      return
    }
    const { attempts } = given
    const data = payloadOf(given)
    let job: unknown = data
    try {
      job = this.#payloads.decode(data)
    } catch {
      // A message that the codec cannot decode is reported as bytes.
    }
    const letter: DeadLetter<unknown> = { job, error, attempts, headers: headersBehind(data, given.headers) }
    this.#deadLetters.add(letter, given)
    this.#life.events.add('deadLetter', job, error, letter)
  }

  /** There are fewer messages than before. */
  #changed(): void {
    this.#room.check()
    this.#drained.check()
    this.#idle.check()
    this.#keepAlive()
  }

  #keepAlive(): void {
    this.#life.needed = this.size > 0
  }

  #host(): LifeHost {
    return {
      // Only a worker gives credit. Who asks for the counters is none.
      joinsLater: true,
      ended: (link) => this.#jobs.lose(link),
      unconnected: (_connection, error) => this.#life.events.add('failed', error, undefined),
      request: (link, flags, id) => {
        const { endpoint } = this.#life
        if ((flags & ABOUT) === 0) endpoint.breach(link, 'it sent a request to a queue')
        else tellCounters(endpoint, link, id, { ...this.stats(), letters: this.#deadLetters.summaries() })
      },
      message: (link) => this.#life.endpoint.breach(link, 'it sent a message to a queue'),
      credit: (link, amount) => {
        this.#life.peers.join(link)
        this.#jobs.credit(link, amount)
      },
      goodbye: (link) => this.#jobs.leave(link),
      source: connectionOf,
      leave: () => this.#room.fail(closedError('queue')),
      idle: () => this.#idle.wait(),
      end: (error) => {
        this.#room.fail(error)
        this.#drained.fail(error)
        for (const job of this.#jobs.removeAll()) job.failed(error)
        this.#idle.check()
        this.#life.needed = false
      },
    }
  }
}

/** A copy of the message, with its headers. */
function contentOf(data: Uint8Array, headers: MessageHeaders | undefined): JobContent {
  if (headers === undefined) return { data: copied(data), headers: 0 }
  const bytes = encodeHeaders(headers)
  return { data: joined(data, bytes), headers: bytes.byteLength }
}

function payloadOf({ data, headers }: JobContent): Uint8Array {
  return data.subarray(0, data.byteLength - headers)
}
