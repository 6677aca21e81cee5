/**
 * A work queue. Each message goes to one worker and is kept until that worker acknowledges it. If the worker dies,
 * leaves, fails or takes too long, the message goes to another one, marked as redelivered. The queue assigns the
 * messages, so no two workers hold one message at the same time while both are known to live. The queue is in the
 * memory of this process: its messages end with the process.
 */
import type { Service } from '../bus/service.js'
import type { PayloadCodec } from '../codec/payload-codec.js'
import { closedError, RingbellError } from '../errors.js'
import { checkSignal, type SignalOptions, throwIfAborted } from '../wait/abort.js'
import { Deadline } from '../wait/deadlines.js'
import { Fifo } from '../wait/fifo.js'
import { Condition } from '../wait/condition.js'
import type { Connection } from './connection.js'
import { EndpointOwner, type Life, type LifeHost, type LifeParts } from './life.js'
import { copied, type EndReason, type Link, type Pending } from './link.js'
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
  /** Messages that no worker has. Those in `#again`, which are delivered again, come first. */
  readonly #fresh = new Fifo<Job>()
  readonly #again = new Fifo<Job>()
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
    return this.#fresh.size + this.#again.size
  }

  /** Assigns waiting messages to the workers that accept more, one worker after the other. */
  #assign(): void {
    while (this.#waiting > 0) {
      const next = this.#ready.entries().next()
      if (next.done === true) return
      const [link, credit] = next.value
      this.#ready.delete(link)
      if (link.gone !== undefined || link.leaving) continue
      const job = (this.#again.shift() ?? this.#fresh.shift()) as Job
      this.#assigned.add(job)
      if (!job.sendOn(link)) {
        this.#assigned.delete(job)
        this.#again.push(job)
        continue
      }
      if (job.attempts > 1) this.#redelivered++
      if (credit > 1) this.#ready.set(link, credit - 1)
    }
  }

  /** A worker accepts so many more. */
  #credit(link: Link, amount: number): void {
    this.#ready.set(link, Math.min(MOST_CREDIT, (this.#ready.get(link) ?? 0) + amount))
    this.#assign()
  }

  readonly #jobHost: JobHost = {
    timeout: () => this.#timeout,
    acknowledged: (job) => {
      this.#assigned.delete(job)
      this.#acknowledged++
      this.#changed()
    },
    refused: (job, error) => {
      this.#assigned.delete(job)
      if (this.#life.closed !== undefined) return
      if (job.attempts >= this.#attempts) this.#giveUp(job, error)
      else this.#again.push(job)
      this.#changed()
      this.#assign()
    },
    unsent: (link, bytes) => {
      link.room(bytes).then(
        () => this.#credit(link, 1),
        () => {},
      )
    },
    returned: (job) => {
      this.#assigned.delete(job)
      if (this.#life.closed !== undefined) return
      this.#again.push(job)
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
      ended: (link) => void this.#ready.delete(link),
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
  acknowledged(job: Job): void
  /** The worker failed or is gone while it had the message. That counts as an attempt. */
  refused(job: Job, error: RingbellError | RemoteError): void
  /** No worker has seen the message. */
  returned(job: Job): void
  /** A message of `bytes` bytes was taken back before this worker saw it. The worker gets another when there is room for it. */
  unsent(link: Link, bytes: number): void
}

/** One message, until it is acknowledged. */
class Job implements Pending {
  id = 0
  ordinal = 0
  attempts = 0
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
    this.#over()
    this.#host.acknowledged(this)
  }

  error(flags: number, data: Uint8Array): void {
    this.#over()
    if ((flags & NOT_BEGUN) === 0) this.#host.refused(this, decodeError(data))
    else this.#back()
  }

  chunk(): void {}

  end(): void {
    this.reply()
  }

  lost(reached: boolean, why: string): void {
    this.#over()
    if (reached)
      this.#host.refused(
        this,
        new RingbellError('ERR_RINGBELL_OUTCOME_UNKNOWN', `The worker was lost before it acknowledged: ${why}`),
      )
    else this.#back()
  }

  target(): undefined {
    return undefined
  }

  fail(error: RingbellError): void {
    this.#over()
    this.#host.refused(this, error)
  }

  tooLarge(): void {
    this.reply()
  }

  /** No worker has seen it, so this does not count as an attempt. */
  #back(): void {
    this.attempts--
    this.#host.returned(this)
  }

  #late(timeout: number): void {
    const link = this.#link
    if (link?.callOff(this, this.#flags) !== true) {
      this.fail(new RingbellError('ERR_RINGBELL_TIMEOUT', `The worker did not acknowledge it within ${timeout} ms.`))
      return
    }
    this.#over()
    this.#back()
    this.#host.unsent(link, this.data.byteLength)
  }

  #over(): void {
    this.#deadline?.cancel()
    this.#deadline = undefined
    this.#link = undefined
  }
}
