/**
 * What happens to a subscriber besides messages: notices of the core become events of the subscriber, in the core's
 * order. `'ended'` waits until the last message of that publisher has been taken. A listener that throws
 * becomes an uncaught exception and costs nobody else an event.
 */
import type { EventEmitter } from 'node:events'
import { channels } from './diagnostics.js'
import { RingbellError, type RingbellErrorCode } from './errors.js'
import type { NoticeBoard } from './inflow/inflow.js'
import type { NativeSubscriber } from './native.js'
import { serviceOf, type RecordJson, type Rung, type Service } from './service.js'
import type { AttachedPublisher, Sources, StepDown } from './sources.js'

/** The events of a subscriber. Messages are never among them. */
export interface SubscriberEvents {
  /** A publisher was joined; its messages come from now on. */
  attached: [publisher: AttachedPublisher]
  /** A publisher closed or died, and everything that it had committed has been received. */
  ended: [publisher: AttachedPublisher, reason: string]
  /** So many messages of a publisher were overwritten, or lost by eviction, before this subscriber read them. */
  missed: [publisher: AttachedPublisher, messages: number]
  /** The publisher gave our slot away because we stalled it for longer than `evictAfter`. */
  evicted: [publisher: AttachedPublisher]
  /** A publisher could not be joined, or broke the protocol; `error.code` says why. Others are not affected. */
  failed: [service: Service, error: RingbellError]
}

type Notice =
  | { type: 'attached'; source: number; record: RecordJson; rung: Rung; stepDowns?: StepDown[] }
  | { type: 'ended'; source: number; reason: string }
  | { type: 'missed'; source: number; messages: number }
  | { type: 'evicted'; source: number }
  | {
      type: 'failed'
      record: RecordJson
      error: { code: RingbellErrorCode; message: string; syscall?: string; errno?: string }
    }

export class Notices implements NoticeBoard {
  readonly #native: NativeSubscriber
  readonly #sources: Sources
  readonly #emitter: EventEmitter<SubscriberEvents>
  /** The source of messages that are drained but not taken, or -1. */
  readonly #holding: () => number
  /** Has the core tell what happened. */
  readonly #look: () => void
  #kept: Notice[] = []
  #postponed = false

  constructor(
    native: NativeSubscriber,
    sources: Sources,
    emitter: EventEmitter<SubscriberEvents>,
    holding: () => number,
    look: () => void,
  ) {
    this.#native = native
    this.#sources = sources
    this.#emitter = emitter
    this.#holding = holding
    this.#look = look
  }

  get keeping(): boolean {
    return this.#kept.length > 0 || this.#postponed
  }

  /** Takes what the core has to tell, and what was kept back. */
  take(): void {
    this.#postponed = false
    const json = this.#native.notices()
    const fresh = json === '' ? [] : (JSON.parse(json) as Notice[])
    if (fresh.length === 0 && this.#kept.length === 0) return
    this.#tellAll(fresh)
  }

  /** Nobody may ever read on, so what was kept back must not wait for that. */
  takeSoon(): void {
    this.#postponed = false
    setImmediate(() => {
      this.#look()
      this.#tellAll([])
    })
  }

  /** The core cannot be asked right now: a batch is lent out. */
  postpone(): void {
    this.#postponed = true
  }

  /** The subscriber is closed: nothing more is told. */
  clear(): void {
    this.#kept = []
  }

  #tellAll(fresh: readonly Notice[]): void {
    const due = [...this.#kept, ...fresh]
    this.#kept = []
    for (const notice of due) {
      if (notice.type === 'ended' && notice.source === this.#holding()) this.#kept.push(notice)
      else this.#tell(notice)
    }
  }

  #tell(notice: Notice): void {
    if (notice.type === 'attached') {
      const { record, rung, stepDowns = [] } = notice
      const publisher = { service: serviceOf(record), rung, stepDowns }
      this.#sources.add(notice.source, publisher)
      this.#emit('attached', publisher)
      return
    }
    if (notice.type === 'failed') {
      const { code, message, ...details } = notice.error
      this.#emit('failed', serviceOf(notice.record), new RingbellError(code, message, details))
      return
    }
    const publisher =
      notice.type === 'ended' ? this.#sources.remove(notice.source) : this.#sources.publisher(notice.source)
    if (publisher === undefined) return
    if (notice.type === 'ended') this.#emit('ended', publisher, notice.reason)
    else if (notice.type === 'missed') this.#emit('missed', publisher, notice.messages)
    else this.#emit('evicted', publisher)
  }

  #emit<E extends keyof SubscriberEvents>(event: E, ...details: SubscriberEvents[E]): void {
    const channel = channels.subscriber[event]
    if (channel.hasSubscribers) channel.publish({ subscriber: this.#emitter, details })
    try {
      // The emitter's own types cannot follow a generic event name.
      ;(this.#emitter as EventEmitter).emit(event, ...details)
    } catch (error) {
      process.nextTick(() => {
        throw error
      })
    }
  }
}
