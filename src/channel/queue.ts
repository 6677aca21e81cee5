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
import type { PayloadCodec } from '../codec/payload-codec.js'
import { closedError, RingbellError } from '../errors.js'
import { checkSignal, type SignalOptions, throwIfAborted } from '../wait/abort.js'
import { type BackoffOptions, pauseAfter } from '../wait/backoff.js'
import { Fifo } from '../wait/fifo.js'
import { Condition } from '../wait/condition.js'
import { waitFor } from '../wait/waiting.js'
import { tellCounters } from './about.js'
import type { Connection } from './connection.js'
import { type DeadLetter, DeadLetters } from './dead-letters.js'
import { Job, type JobHost } from './job.js'
import { EndpointOwner, type Life, type LifeHost, type LifeParts } from './life.js'
import { copied, type EndReason, type Link } from './link.js'
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
  /** Messages that no worker has. Those that were lost with a worker come first, then others that are delivered again. */
  readonly #fresh = new Fifo<Job>()
  readonly #again = new Fifo<Job>()
  readonly #apart = new Fifo<Job>()
  /** Workers that have a message which was lost with another worker. */
  readonly #suspecting = new Set<Link>()
  /** Messages that are not to be assigned yet. */
  readonly #delayed = new Set<Job>()
  readonly #assigned = new Set<Job>()
  readonly #deadLetters: DeadLetters
  readonly #jobHost: JobHost
  /** Workers that accept more messages, and how many, in the order in which they are served. */
  readonly #ready = new Map<Link, number>()
  readonly #room = new Condition(() => this.size < this.#limit)
  readonly #drained = new Condition(() => this.size === 0)
  /** Waits of `close({ grace })`. The end of the queue resolves them as well. */
  readonly #idle = new Condition(() => this.size === 0)
  #pushed = 0
  #acknowledged = 0
  #redelivered = 0
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
    return this.#waiting + this.#delayed.size + this.#assigned.size
  }

  /**
   * Accepts a message, which is copied. `false`: it was not accepted, because `limit` messages are without an
   * acknowledgement. Wait for `ready()` and push it again. Messages without an acknowledgement keep the process alive.
   *
   * @throws {RingbellError} `ERR_RINGBELL_CODEC`, `ERR_RINGBELL_INVALID_OPTION`, `ERR_RINGBELL_CLOSED`.
   */
  push(value: T, options?: PushOptions): boolean {
    if (options !== undefined) checkPush(options)
    this.#life.assertOpen()
    if (this.size >= this.#limit) return false
    this.#accept(new Job(this.#jobHost, copied(this.#payloads.encode(value))), options?.delay)
    return true
  }

  /**
   * Pushes a message and resolves with what the worker's handler returned. It waits for room first, as `ready()` does. The signal takes
   * the message back: no worker gets it any more, and the signal of a handler that has it fires. A result that the codec of the worker
   * cannot encode is a failed attempt.
   *
   * Rejects with the error of the last attempt (a `RemoteError` if the handler threw, `ERR_RINGBELL_OUTCOME_UNKNOWN`,
   * `ERR_RINGBELL_TIMEOUT`), and the message is no dead letter; `ERR_RINGBELL_CODEC`, `ERR_RINGBELL_MESSAGE_TOO_LARGE` (of the result),
   * `ERR_RINGBELL_INVALID_OPTION`, `ERR_RINGBELL_CLOSED`, or an `AbortError`.
   */
  async run<R = unknown>(value: T, options: RunOptions = {}): Promise<R> {
    checkRun(options)
    const { delay, signal } = options
    throwIfAborted(signal)
    this.#life.assertOpen()
    const data = copied(this.#payloads.encode(value))
    while (this.size >= this.#limit) {
      await this.#room.wait({ signal })
      throwIfAborted(signal)
    }
    const result = await waitFor<Uint8Array | undefined>(
      (waiting) => {
        this.#life.assertOpen()
        const job = new Job(this.#jobHost, data, waiting)
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
   * `push`, and the letter stays.
   *
   * @throws {RingbellError} `ERR_RINGBELL_NOT_FOUND` if the letter is not in `deadLetters` any more; `ERR_RINGBELL_CLOSED`.
   */
  retry(letter: DeadLetter<T>, options?: PushOptions): boolean {
    if (options !== undefined) checkPush(options)
    this.#life.assertOpen()
    const data = this.#deadLetters.dataOf(letter)
    if (data === undefined)
      throw new RingbellError(
        'ERR_RINGBELL_NOT_FOUND',
        'This dead letter was retried, discarded or dropped; see queue.deadLetters.',
      )
    if (this.size >= this.#limit) return false
    this.#deadLetters.take(letter)
    this.#accept(new Job(this.#jobHost, data), options?.delay)
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

  /** Resolves when every message has been acknowledged, or given up, also while the queue closes. Rejects as `ready` does. */
  async drained(options: SignalOptions = {}): Promise<void> {
    checkSignal(options)
    throwIfAborted(options.signal)
    this.#life.assertNotClosed()
    await this.#drained.wait(options)
  }

  /** Replaces the record's metadata; others see `updated`. */
  update(metadata: Record<string, unknown>): void {
    this.#life.update(metadata)
  }

  /** Counters of this queue. */
  stats(): QueueStats {
    return {
      workers: this.#life.peers.size,
      waiting: this.#waiting,
      delayed: this.#delayed.size,
      assigned: this.#assigned.size,
      pushed: this.#pushed,
      acknowledged: this.#acknowledged,
      redelivered: this.#redelivered,
      failed: this.#failed,
      withdrawn: this.#withdrawn,
      deadLetters: this.#deadLetters.size,
      deadLettersDropped: this.#deadLetters.dropped,
      core: this.#life.coreStats,
    }
  }

  get #waiting(): number {
    return this.#fresh.size + this.#again.size + this.#apart.size
  }

  #accept(job: Job, delay = 0): void {
    this.#pushed++
    if (delay > 0) this.#delay(job, delay)
    else this.#fresh.push(job)
    this.#keepAlive()
    this.#assign()
  }

  /** Puts it where it waits for a worker, after so many milliseconds. */
  #delay(job: Job, ms: number): void {
    this.#delayed.add(job)
    job.pause(ms, () => {
      this.#delayed.delete(job)
      if (job.attempts === 0) this.#fresh.push(job)
      else this.#wait(job)
      this.#assign()
    })
  }

  /** Its caller waits no more. If it is not over, it is in exactly one place. */
  #withdraw(job: Job): void {
    if (job.over) return
    const isIt = (one: Job): boolean => one === job
    if (this.#assigned.has(job) || this.#delayed.delete(job)) this.#takeFrom(job, job.takeBack())
    else for (const list of [this.#fresh, this.#again, this.#apart]) if (list.take(isIt) !== undefined) break
    this.#withdrawn++
    this.#changed()
    if (this.#apart.size > 0) this.#assign()
  }

  /** Assigns waiting messages to the workers that accept more, one worker after the other. */
  #assign(): void {
    if (this.#apart.size > 0) this.#assignApart()
    while (this.#again.size + this.#fresh.size > 0) {
      const next = this.#ready.entries().next()
      if (next.done === true) return
      const [link, credit] = next.value
      this.#ready.delete(link)
      if (link.gone !== undefined || link.leaving) continue
      this.#give((this.#again.shift() ?? this.#fresh.shift()) as Job, link, credit)
    }
  }

  /** Assigns messages that were lost with a worker, one to each worker, and better to those that have nothing else. */
  #assignApart(): void {
    while (this.#apart.size > 0) {
      let best: Link | undefined
      for (const link of this.#ready.keys()) {
        if (link.gone !== undefined || link.leaving || this.#suspecting.has(link)) continue
        best ??= link
        if (link.calls.size > 0) continue
        best = link
        break
      }
      if (best === undefined) return
      const credit = this.#ready.get(best) ?? 1
      this.#ready.delete(best)
      this.#give(this.#apart.shift() as Job, best, credit)
    }
  }

  #give(job: Job, link: Link, credit: number): void {
    this.#assigned.add(job)
    if (!job.sendOn(link)) {
      this.#assigned.delete(job)
      this.#wait(job)
      return
    }
    if (job.apart && this.#assigned.has(job)) this.#suspecting.add(link)
    if (job.attempts > 1) this.#redelivered++
    if (credit > 1) this.#ready.set(link, credit - 1)
  }

  /** It is delivered again. */
  #wait(job: Job): void {
    if (job.apart) this.#apart.push(job)
    else this.#again.push(job)
  }

  /** The worker has it no more. */
  #takeFrom(job: Job, link: Link | undefined): void {
    this.#assigned.delete(job)
    if (job.apart && link !== undefined) this.#suspecting.delete(link)
  }

  /** A worker accepts so many more. */
  #credit(link: Link, amount: number): void {
    this.#ready.set(link, Math.min(MOST_CREDIT, (this.#ready.get(link) ?? 0) + amount))
    this.#assign()
  }

  #hostOfJobs(timeout: number): JobHost {
    return {
      timeout,
      acknowledged: (job, link) => {
        this.#takeFrom(job, link)
        this.#acknowledged++
        this.#changed()
        if (this.#apart.size > 0) this.#assign()
      },
      refused: (job, link, error, lost) => {
        this.#takeFrom(job, link)
        if (this.#life.closed !== undefined) return
        job.apart ||= lost
        if (job.attempts >= this.#attempts) this.#giveUp(job, error)
        else if (this.#backoff === undefined) this.#wait(job)
        else this.#delay(job, pauseAfter(job.attempts, this.#backoff))
        this.#changed()
        this.#assign()
      },
      unsent: (link, bytes) => {
        link.room(bytes).then(
          () => this.#credit(link, 1),
          () => {},
        )
      },
      returned: (job, link) => {
        this.#takeFrom(job, link)
        if (this.#life.closed !== undefined) return
        this.#wait(job)
        this.#assign()
      },
    }
  }

  #giveUp(given: Job, error: RingbellError | RemoteError): void {
    this.#failed++
    if (given.outcome !== undefined) {
      given.failed(error)
      return
    }
    const { data, attempts } = given
    let job: unknown = data
    try {
      job = this.#payloads.decode(data)
    } catch {
      // A message that the codec cannot decode is reported as bytes.
    }
    const letter: DeadLetter<unknown> = { job, error, attempts }
    this.#deadLetters.add(letter, data)
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
      ended: (link) => {
        this.#ready.delete(link)
        this.#suspecting.delete(link)
      },
      unconnected: (_connection, error) => this.#life.events.add('failed', error, undefined),
      request: (link, flags, id) => {
        const { endpoint } = this.#life
        if ((flags & ABOUT) === 0) endpoint.breach(link, 'it sent a request to a queue')
        else tellCounters(endpoint, link, id, { ...this.stats(), letters: this.#deadLetters.summaries() })
      },
      message: (link) => this.#life.endpoint.breach(link, 'it sent a message to a queue'),
      credit: (link, amount) => {
        this.#life.peers.join(link)
        this.#credit(link, amount)
      },
      goodbye: (link) => void this.#ready.delete(link),
      source: connectionOf,
      leave: () => this.#room.fail(closedError('queue')),
      idle: () => this.#idle.wait(),
      end: (error) => {
        this.#room.fail(error)
        this.#drained.fail(error)
        const left = [this.#fresh, this.#again, this.#apart, this.#delayed, this.#assigned]
        const jobs = left.flatMap((some) => [...some])
        for (const some of left) some.clear()
        for (const job of jobs) job.failed(error)
        this.#idle.check()
        this.#life.needed = false
      },
    }
  }
}

const MOST_CREDIT = 65_536
