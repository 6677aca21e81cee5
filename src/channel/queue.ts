/**
 * A work queue. Each message goes to one worker and is kept until that worker acknowledges it. If the worker dies,
 * leaves, fails or takes too long, the message goes to another one, marked as redelivered. The queue assigns the
 * messages, so no two workers hold one message at the same time while both are known to live. The queue is in the
 * memory of this process: its messages end with the process.
 *
 * When a worker is lost, any of the messages that it had may be the reason. From then on these are kept apart: a worker
 * has at most one of them at a time. So a message that ends its worker costs every other message at most one attempt.
 */
import type { Service } from '../bus/service.js'
import { copied } from '../codec/bytes.js'
import type { PayloadCodec } from '../codec/payload-codec.js'
import { closedError, RingbellError } from '../errors.js'
import { checkSignal, type SignalOptions, throwIfAborted } from '../wait/abort.js'
import { Deadline } from '../wait/deadlines.js'
import { Fifo } from '../wait/fifo.js'
import { Condition } from '../wait/condition.js'
import type { Connection } from './connection.js'
import { EndpointOwner, type Life, type LifeHost, type LifeParts } from './life.js'
import type { EndReason, Link, Pending } from './link.js'
import { connectionOf } from './peers.js'
import { decodeError, type RemoteError } from './remote-error.js'
import type { QueueStats } from './stats.js'
import { NOT_BEGUN, RETRIED } from './wire.js'

/** The events of a queue. There are none after `close()`. */
export interface QueueEvents<T> {
  /** A worker has connected. */
  connected: [worker: Connection<T>]
  /** A worker has gone. Messages that it did not acknowledge go to others. */
  disconnected: [worker: Connection<T>, reason: EndReason]
  /**
   * A message was given up after its last attempt. `error` is the error of the last worker, or says why the outcome is
   * unknown.
   */
  deadLetter: [value: T, error: RingbellError | RemoteError]
  /** A worker broke the protocol and was disconnected. Without a worker: the queue itself is broken and closed. */
  failed: [error: RingbellError, worker: Connection<T> | undefined]
}

/** @internal What a bus passes to the constructor. */
export interface QueueParts extends LifeParts {
  readonly limit: number
  readonly attempts: number
  readonly timeout: number
}

/** A work queue: each message goes to one worker until it is acknowledged; `bus.queue()` makes it. */
export class Queue<T = Uint8Array> extends EndpointOwner<QueueEvents<T>> {
  readonly #life: Life
  readonly #payloads: PayloadCodec
  readonly #limit: number
  readonly #attempts: number
  readonly #timeout: number
  /** Messages that no worker has. Those that were lost with a worker come first, then others that are delivered again. */
  readonly #fresh = new Fifo<Job>()
  readonly #again = new Fifo<Job>()
  readonly #apart = new Fifo<Job>()
  /** Workers that have a message which was lost with another worker. */
  readonly #suspecting = new Set<Link>()
  readonly #assigned = new Set<Job>()
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

  /** @internal Use `bus.queue()`. */
  constructor(parts: QueueParts) {
    super()
    this.#payloads = parts.payloads
    this.#limit = parts.limit
    this.#attempts = parts.attempts
    this.#timeout = parts.timeout
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
    return this.#waiting + this.#assigned.size
  }

  /**
   * Accepts a message, which is copied. `false`: it was not accepted, because `limit` messages are without an
   * acknowledgement. Wait for `ready()` and push it again. Messages without an acknowledgement keep the process alive.
   *
   * @throws {RingbellError} `ERR_RINGBELL_CODEC`, `ERR_RINGBELL_CLOSED`.
   */
  push(value: T): boolean {
    this.#life.assertOpen()
    if (this.size >= this.#limit) return false
    const data = copied(this.#payloads.encode(value))
    this.#pushed++
    this.#fresh.push(new Job(this.#jobHost, data))
    this.#keepAlive()
    this.#assign()
    return true
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
      assigned: this.#assigned.size,
      pushed: this.#pushed,
      acknowledged: this.#acknowledged,
      redelivered: this.#redelivered,
      failed: this.#failed,
      core: this.#life.coreStats,
    }
  }

  get #waiting(): number {
    return this.#fresh.size + this.#again.size + this.#apart.size
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

  readonly #jobHost: JobHost = {
    timeout: () => this.#timeout,
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
      else this.#wait(job)
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

  #giveUp(job: Job, error: RingbellError | RemoteError): void {
    this.#failed++
    let value: unknown = job.data
    try {
      value = this.#payloads.decode(job.data)
    } catch {
      // A message that the codec cannot decode is reported as bytes.
    }
    this.#life.events.add('deadLetter', value, error)
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
      ended: (link) => {
        this.#ready.delete(link)
        this.#suspecting.delete(link)
      },
      unconnected: (_connection, error) => this.#life.events.add('failed', error, undefined),
      request: (link) => this.#life.endpoint.breach(link, 'it sent a request to a queue'),
      message: (link) => this.#life.endpoint.breach(link, 'it sent a message to a queue'),
      credit: (link, amount) => this.#credit(link, amount),
      goodbye: (link) => void this.#ready.delete(link),
      source: connectionOf,
      leave: () => this.#room.fail(closedError('queue')),
      idle: () => this.#idle.wait(),
      end: (error) => {
        this.#room.fail(error)
        this.#drained.fail(error)
        this.#fresh.clear()
        this.#again.clear()
        this.#apart.clear()
        this.#assigned.clear()
        this.#idle.check()
        this.#life.needed = false
      },
    }
  }
}

const MOST_CREDIT = 65_536

interface JobHost {
  timeout(): number
  acknowledged(job: Job, link: Link | undefined): void
  /** The worker failed, or is gone (`lost`), while it had the message. That counts as an attempt. */
  refused(job: Job, link: Link | undefined, error: RingbellError | RemoteError, lost: boolean): void
  /** No worker has seen the message. */
  returned(job: Job, link: Link | undefined): void
  /** A message of `bytes` bytes was taken back before this worker saw it. The worker gets another when there is room for it. */
  unsent(link: Link, bytes: number): void
}

/** One message, until it is acknowledged. */
class Job implements Pending {
  id = 0
  ordinal = 0
  attempts = 0
  /** A worker was lost while it had this message. */
  apart = false
  readonly data: Uint8Array
  readonly #host: JobHost
  #link: Link | undefined
  #flags = 0
  #deadline: Deadline | undefined

  constructor(host: JobHost, data: Uint8Array) {
    this.#host = host
    this.data = data
  }

  sendOn(link: Link): boolean {
    const timeout = this.#host.timeout()
    this.#flags = this.attempts > 0 ? RETRIED : 0
    if (!link.ask(this, this.#flags, Math.ceil(timeout), this.data, true)) return false
    this.attempts++
    this.#link = link
    if (timeout > 0) this.#deadline = new Deadline(timeout, () => this.#late(timeout))
    return true
  }

  sent(ordinal: number): void {
    this.ordinal = ordinal
  }

  reply(): void {
    this.#host.acknowledged(this, this.#over())
  }

  error(flags: number, data: Uint8Array): void {
    const link = this.#over()
    if ((flags & NOT_BEGUN) === 0) this.#host.refused(this, link, decodeError(data), false)
    else this.#back(link)
  }

  chunk(): void {}

  end(): void {
    this.reply()
  }

  lost(reached: boolean, why: string): void {
    const link = this.#over()
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
    this.#host.refused(this, this.#over(), error, false)
  }

  tooLarge(): void {
    this.reply()
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
    this.#back(this.#over())
    this.#host.unsent(link, this.data.byteLength)
  }

  /** The worker that had it. */
  #over(): Link | undefined {
    const link = this.#link
    this.#deadline?.cancel()
    this.#deadline = undefined
    this.#link = undefined
    return link
  }
}
