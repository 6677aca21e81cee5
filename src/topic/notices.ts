/**
 * What happens to a subscriber besides messages. Notices of the core become events of the subscriber, in the core's order. `'ended'`
 * waits until the last message of that publisher has been taken. Sources are noted at once, all of them; their events follow from the event queue.
 */
import type { EventEmitter } from 'node:events'
import { type Fallback, type RecordJson, type Rung, type Service, serviceOf } from '../bus/service.js'
import { channels, debug } from '../diagnostics.js'
import { RingbellError, type RingbellErrorCode } from '../errors.js'
import type { NativeSubscriber } from '../native.js'
import { EventQueue } from '../wait/event-queue.js'
import type { PendingNotices } from './reading/reader-context.js'
import type { AttachedPublisher, DurablePosition, Sources } from './sources.js'

/**
 * The events of a subscriber. Messages are never among them. They are emitted as soon as the code that runs has ended: before
 * any message that came after and was waited for, but a loop of `tryReceive()` sees messages first. None after `close()`.
 */
export interface SubscriberEvents {
  /** A publisher was joined; its messages come from now on. */
  attached: [publisher: AttachedPublisher]
  /** A publisher closed or died, and everything that it had committed has been received. */
  ended: [publisher: AttachedPublisher, reason: string]
  /** So many messages of a publisher were overwritten before this subscriber read them. What an eviction cost is not counted. */
  missed: [publisher: AttachedPublisher, messages: number]
  /** The publisher gave our slot away because we stalled it for longer than `evictAfter`. */
  evicted: [publisher: AttachedPublisher]
  /**
   * The connection of a stream ended while its publisher lives, and was not to be had again in so many tries (the option
   * `reconnect`); `error` is what the last one came to. Nothing more is tried.
   */
  gaveUp: [service: Service, error: RingbellError, tries: number]
  /** A publisher could not be joined, or broke the protocol; `error.code` says why. Others are not affected. */
  failed: [error: RingbellError, service: Service]
}

type Notice =
  | {
      type: 'attached'
      source: number
      record: RecordJson
      rung: Rung
      fallbacks?: Fallback[]
      position?: DurablePosition | null
      redeliveredBelow?: number
    }
  | { type: 'ended'; source: number; reason: string }
  | { type: 'missed'; source: number; messages: number }
  | { type: 'evicted'; source: number }
  | { type: 'failed'; record: RecordJson; error: ErrorJson }
  | { type: 'gaveUp'; record: RecordJson; error: ErrorJson; tries: number }

interface ErrorJson {
  code: RingbellErrorCode
  message: string
  syscall?: string
  errno?: string
}

/** What notices need of their subscriber. */
export interface NoticesHost {
  /** Who emits. */
  readonly emitter: EventEmitter<SubscriberEvents>
  /** The source of messages that are drained but not taken, or -1. */
  holding(): number
  /** Has the core tell what happened. */
  ask(): void
  /** There are new sources. Runs no code of users. */
  joined(): void
}

export class Notices implements PendingNotices {
  readonly #native: NativeSubscriber
  readonly #sources: Sources
  readonly #host: NoticesHost
  #kept: Notice[] = []
  readonly #events: EventQueue<SubscriberEvents>
  #postponed = false
  #closed = false

  constructor(native: NativeSubscriber, sources: Sources, host: NoticesHost) {
    this.#native = native
    this.#sources = sources
    this.#host = host
    this.#events = new EventQueue(host.emitter, 'subscriber', channels.subscriber)
  }

  get keeping(): boolean {
    return this.#kept.length > 0 || this.#postponed
  }

  get untold(): boolean {
    return this.#events.pending
  }

  /** Takes what the core has to tell, and what was kept back. */
  take(): void {
    this.#postponed = false
    const json = this.#native.notices()
    const fresh = json === '' ? [] : (JSON.parse(json) as Notice[])
    if (fresh.length > 0 || this.#kept.length > 0) this.#noteAll(fresh)
  }

  /** Nobody may ever read on, so what was kept back must not wait for that. */
  takeSoon(): void {
    this.#postponed = false
    setImmediate(() => {
      this.#host.ask()
      this.#noteAll([])
    })
  }

  /** The core cannot be asked right now: a batch is lent out. */
  postpone(): void {
    this.#postponed = true
  }

  /** The subscriber is closed: nothing more is told. */
  clear(): void {
    this.#closed = true
    this.#kept = []
    this.#events.clear()
  }

  #noteAll(fresh: readonly Notice[]): void {
    if (this.#closed) return
    const due = [...this.#kept, ...fresh]
    this.#kept = []
    let joined = false
    for (const notice of due) {
      joined ||= notice.type === 'attached'
      if (notice.type === 'ended' && notice.source === this.#host.holding()) this.#kept.push(notice)
      else this.#note(notice)
    }
    if (joined) this.#host.joined()
  }

  #note(notice: Notice): void {
    if (debug.enabled) debug('%s', describe(notice))
    if (notice.type === 'attached') {
      const { record, rung, fallbacks = [], position } = notice
      const publisher = { service: serviceOf(record), rung, fallbacks, ...(position == null ? {} : { position }) }
      this.#sources.add(notice.source, publisher, notice.redeliveredBelow)
      this.#events.add('attached', publisher)
      return
    }
    if (notice.type === 'failed') {
      this.#events.add('failed', errorOf(notice.error), serviceOf(notice.record))
      return
    }
    if (notice.type === 'gaveUp') {
      this.#events.add('gaveUp', serviceOf(notice.record), errorOf(notice.error), notice.tries)
      return
    }
    const publisher =
      notice.type === 'ended' ? this.#sources.remove(notice.source) : this.#sources.publisher(notice.source)
    if (publisher === undefined) return
    if (notice.type === 'ended') this.#events.add('ended', publisher, notice.reason)
    else if (notice.type === 'missed') this.#events.add('missed', publisher, notice.messages)
    else this.#events.add('evicted', publisher)
  }
}

function errorOf({ code, message, ...details }: ErrorJson): RingbellError {
  return new RingbellError(code, message, details)
}

/** For `NODE_DEBUG=ringbell`. */
function describe(notice: Notice): string {
  switch (notice.type) {
    case 'attached':
      return `attached to ${notice.record.service} ${notice.record.id} by ${notice.rung}, source ${notice.source}`
    case 'failed':
      return `cannot attach to ${notice.record.service} ${notice.record.id}: ${notice.error.message}`
    case 'gaveUp':
      return `gave up ${notice.record.service} ${notice.record.id} after ${notice.tries} tries: ${notice.error.message}`
    case 'ended':
      return `source ${notice.source} ended: ${notice.reason}`
    case 'missed':
      return `source ${notice.source}: ${notice.messages} messages missed`
    case 'evicted':
      return `source ${notice.source}: evicted`
  }
}
