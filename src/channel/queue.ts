/**
 * A work queue: each message goes to one of its workers, is kept until that one acknowledges it, and goes to another one,
 * marked as redelivered, when that one dies, leaves, fails or takes too long. The queue assigns, so no two workers ever hold one
 * message at the same time while both are known to live. It lives in this process: what it holds ends with it.
 */
import { Fifo } from '../wait/fifo.js'
import { Waiters } from '../wait/waiting.js'
import { EventEmitter } from 'node:events'
import { type SignalOptions, checkSignal, throwIfAborted } from '../wait/abort.js'
import { channels } from '../diagnostics.js'
import { closedError, RingbellError, translated } from '../errors.js'
import type { NativeChannel } from '../native.js'
import { metadataJson } from '../bus/options.js'
import { serviceOf, type RecordJson, type Service } from '../bus/service.js'
import type { WaitOption } from '../wait/policy.js'
import type { Connection } from './connection.js'
import { Deadline } from '../wait/deadlines.js'
import { Endpoint, type EndpointHost } from './endpoint.js'
import { copied, type EndReason, type Link, type Pending } from './link.js'
import { connectionOf, Peers } from './peers.js'
import { decodeError, type RemoteError } from './remote-error.js'
import type { Speech } from '../codec/payload-codec.js'
import { coreStats, type QueueStats } from './stats.js'
import { EventQueue } from '../wait/event-queue.js'
import { NOT_BEGUN, RETRIED } from './wire.js'

/** The events of a queue. None after `close()`. */
export interface QueueEvents<T> {
  /** A worker has come. */
  connected: [worker: Connection<T>]
  /** It has gone; what it had not acknowledged goes to others. */
  disconnected: [worker: Connection<T>, reason: EndReason]
  /** A message was given up after its last attempt; `error` is what the last worker said, or why nobody knows. */
  failed: [value: T, error: RingbellError | RemoteError]
  /** A worker broke the protocol, and was disconnected. */
  trouble: [error: RingbellError, worker: Connection<T> | undefined]
}

/** @internal What a bus makes a queue of. */
export interface QueueParts {
  readonly native: NativeChannel
  readonly speech: Speech
  readonly maxMessage: number
  readonly wait: WaitOption | undefined
  readonly limit: number
  readonly attempts: number
  readonly timeout: number
  readonly closed: (queue: { closeNow(): void }) => void
}

export class Queue<T = Uint8Array> extends EventEmitter<QueueEvents<T>> implements AsyncDisposable {
  readonly #native: NativeChannel
  readonly #speech: Speech
  readonly #limit: number
  readonly #attempts: number
  readonly #timeout: number
  readonly #events: EventQueue<QueueEvents<unknown>>
  readonly #peers: Peers
  readonly #endpoint: Endpoint
  readonly #onClose: QueueParts['closed']
  /** Messages that no worker has; those to be delivered again come first. */
  readonly #fresh = new Fifo<Job>()
  readonly #again = new Fifo<Job>()
  readonly #assigned = new Set<Job>()
  /** Workers that take more, and how many; in the order in which they are served. */
  readonly #ready = new Map<Link, number>()
  readonly #waiters = new Waiters<true>()
  #pushed = 0
  #acknowledged = 0
  #redelivered = 0
  #failed = 0
  #referenced = false
  #closed = false

  /** @internal Use `bus.queue()`. */
  constructor(parts: QueueParts) {
    super()
    this.#native = parts.native
    this.#speech = parts.speech
    this.#limit = parts.limit
    this.#attempts = parts.attempts
    this.#timeout = parts.timeout
    this.#onClose = parts.closed
    this.#events = new EventQueue(this, 'queue', channels.queue)
    this.#peers = new Peers(parts.speech, this.#events)
    this.#endpoint = new Endpoint(parts.native, this.#hostOf(parts.maxMessage), parts.wait)
    // Workers come and acknowledge at any time; only messages keep the process alive.
    this.#endpoint.referenced = false
    this.#endpoint.want()
    if (channels.queue['opened'].hasSubscribers) channels.queue['opened'].publish({ queue: this })
  }

  /** This queue as others see it. */
  get service(): Service {
    return serviceOf(JSON.parse(translated(() => this.#native.record())) as RecordJson)
  }

  /** The workers that are connected. */
  get workers(): Connection<T>[] {
    return this.#peers.all as Connection<T>[]
  }

  /** Messages that are not acknowledged yet. */
  get size(): number {
    return this.#waiting + this.#assigned.size
  }

  get closed(): boolean {
    return this.#closed
  }

  /**
   * Takes a message, which is copied. `false`: not accepted: as many as `limit` are without an acknowledgement; wait for
   * `ready()` and push it again. Messages that are not acknowledged keep the process alive.
   *
   * @throws {RingbellError} `ERR_RINGBELL_CODEC`, `ERR_RINGBELL_CLOSED`.
   */
  push(value: T): boolean {
    if (this.#closed) throw closedError('queue')
    if (this.size >= this.#limit) return false
    const data = copied(this.#speech.encode(value))
    this.#pushed++
    this.#fresh.push(new Job(this.#jobHost, data))
    this.#keepAlive()
    this.#assign()
    return true
  }

  /** Resolves when another message would be accepted. Rejects with `ERR_RINGBELL_CLOSED` or an `AbortError`. */
  async ready(options: SignalOptions = {}): Promise<void> {
    await this.#until(() => this.size < this.#limit, options)
  }

  /** Resolves when every message has been acknowledged, or given up. Rejects as `ready` does. */
  async drained(options: SignalOptions = {}): Promise<void> {
    await this.#until(() => this.size === 0, options)
  }

  /** Replaces the record's metadata; others see `updated`. */
  update(metadata: Record<string, unknown>): void {
    const json = metadataJson(metadata)
    translated(() => this.#native.update(json))
  }

  stats(): QueueStats {
    return {
      workers: this.#peers.size,
      waiting: this.#waiting,
      assigned: this.#assigned.size,
      pushed: this.#pushed,
      acknowledged: this.#acknowledged,
      redelivered: this.#redelivered,
      failed: this.#failed,
      core: coreStats(translated(() => this.#native.stats())),
    }
  }

  /** Drops what is not acknowledged, and leaves its workers: `drained()` first where that matters. Idempotent. */
  async close(): Promise<void> {
    this.closeNow()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.closeNow()
  }

  /** @internal */
  closeNow(): void {
    this.#end(closedError('queue'))
  }

  get #waiting(): number {
    return this.#fresh.size + this.#again.size
  }

  async #until(condition: () => boolean, options: SignalOptions): Promise<void> {
    checkSignal(options)
    throwIfAborted(options.signal)
    if (this.#closed) throw closedError('queue')
    if (!condition()) await this.#waiters.wait(() => (condition() ? true : undefined), options)
  }

  /** Gives what waits to those who are ready, each in turn. */
  #assign(): void {
    while (this.#waiting > 0) {
      const next = this.#ready.entries().next()
      if (next.done === true) return
      const [link, credit] = next.value
      this.#ready.delete(link)
      if (link.gone !== undefined || link.leaving) continue
      const job = (this.#again.shift() ?? this.#fresh.shift()) as Job
      this.#assigned.add(job)
      if (!job.place(link)) {
        this.#assigned.delete(job)
        this.#again.push(job)
        continue
      }
      if (job.attempts > 1) this.#redelivered++
      if (credit > 1) this.#ready.set(link, credit - 1)
    }
  }

  /** A worker takes so many more. */
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
      if (this.#closed) return
      if (job.attempts >= this.#attempts) this.#giveUp(job, error)
      else this.#again.push(job)
      this.#changed()
      this.#assign()
    },
    unsent: (link) => {
      if (link.gone === undefined) this.#credit(link, 1)
    },
    returned: (job) => {
      this.#assigned.delete(job)
      if (this.#closed) return
      this.#again.push(job)
      this.#assign()
    },
  }

  #giveUp(job: Job, error: RingbellError | RemoteError): void {
    this.#failed++
    let value: unknown = job.data
    try {
      value = this.#speech.decode(job.data)
    } catch {
      // What its own codec cannot read is told as bytes.
    }
    this.#events.add('failed', value, error)
  }

  /** There are fewer messages than before. */
  #changed(): void {
    this.#waiters.check()
    this.#keepAlive()
  }

  #keepAlive(): void {
    const wanted = this.size > 0
    if (wanted === this.#referenced) return
    this.#referenced = wanted
    this.#endpoint.referenced = wanted
  }

  #end(error: RingbellError): void {
    if (this.#closed) return
    this.#closed = true
    try {
      this.#endpoint.close(error)
      this.#events.clear()
    } finally {
      this.#waiters.fail(error)
      this.#fresh.clear()
      this.#again.clear()
      this.#assigned.clear()
      this.#onClose(this)
    }
    if (channels.queue['closed'].hasSubscribers) channels.queue['closed'].publish({ queue: this })
  }

  #hostOf(maxMessage: number): EndpointHost {
    return {
      what: 'queue',
      maxMessage,
      opened: (link, notice) => void this.#peers.open(this.#endpoint, link, notice),
      ended: (link, reason, error) => {
        this.#ready.delete(link)
        this.#peers.ended(link, reason, error)
      },
      failed: (_connection, error) => this.#events.add('trouble', error, undefined),
      request: (link) => this.#endpoint.breach(link, 'it sent a request to a queue'),
      message: (link) => this.#endpoint.breach(link, 'it sent a message to a queue'),
      credit: (link, amount) => this.#credit(link, amount),
      goodbye: (link) => void this.#ready.delete(link),
      fds: () => {},
      trouble: (error, link) => {
        this.#events.add('trouble', error, link && connectionOf(link))
        if (link === undefined) this.#end(error)
      },
    }
  }
}

const MOST_CREDIT = 65_536

interface JobHost {
  timeout(): number
  acknowledged(job: Job): void
  /** The worker failed, or is gone with it: that was an attempt. */
  refused(job: Job, error: RingbellError | RemoteError): void
  /** No worker has seen it. */
  returned(job: Job): void
  /** This worker will not see one that it was given, and still takes it. */
  unsent(link: Link): void
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

  place(link: Link): boolean {
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

  tooLarge(): void {
    this.reply()
  }

  /** Nobody has seen it, so this was no attempt. */
  #back(): void {
    this.attempts--
    this.#host.returned(this)
  }

  #late(timeout: number): void {
    const link = this.#link
    const unsent = link?.callOff(this, this.#flags) === true
    this.#over()
    this.#host.refused(
      this,
      new RingbellError('ERR_RINGBELL_TIMEOUT', `The worker did not acknowledge it within ${timeout} ms.`),
    )
    if (unsent && link !== undefined) this.#host.unsent(link)
  }

  #over(): void {
    this.#deadline?.cancel()
    this.#deadline = undefined
    this.#link = undefined
  }
}
