/**
 * What happens to a subscriber besides messages. Notices of the core become events of the subscriber, in the core's
 * order. `'ended'` waits until the last message of that publisher has been taken. All sources are recorded at once;
 * their events follow from the event queue.
 */
import type { EventEmitter } from 'node:events'
import { type Fallback, type RecordJson, type Rung, type Service, serviceOf } from '../bus/service.js'
import { channels, debug } from '../diagnostics.js'
import { type CoreError, errorOf, type RingbellError } from '../errors.js'
import type { NativeSubscriber } from '../native.js'
import { EventQueue } from '../wait/event-queue.js'
import type { PendingNotices } from './reading/reader-context.js'
import type { AttachedPublisher, DurablePosition, Sources } from './sources.js'

/**
 * The events of a subscriber. Messages are never among them. An event is emitted as soon as the running code has ended.
 * So it comes before any later message that is waited for, but a loop of `tryReceive()` gets messages first. There are
 * no events after `close()`.
 */
export interface SubscriberEvents {
  /** It has attached to a publisher, whose messages come from now on. */
  attached: [publisher: AttachedPublisher]
  /** A publisher closed or died, and everything that it had committed has been received. */
  ended: [publisher: AttachedPublisher, reason: string]
  /**
   * `messages` messages of a publisher were overwritten before this subscriber read them. Messages that an eviction
   * cost are not counted.
   */
  missed: [publisher: AttachedPublisher, messages: number]
  /** The publisher took the slot of this subscriber away, because it stalled the publisher for longer than `evictAfter`. */
  evicted: [publisher: AttachedPublisher]
  /**
   * The connection of a stream ended although its publisher lives, and all `tries` to connect again failed (option
   * `reconnect`). `error` is that of the last try. No more tries follow.
   */
  gaveUp: [service: Service, error: RingbellError, tries: number]
  /**
   * It could not attach to a publisher, or the publisher broke the protocol; `error.code` says why. Others are not affected.
   * Without a `service`, the bus directory cannot be read, so that publishers may be missing: it is tried again, and the
   * event comes once until all of it can be read.
   */
  failed: [error: RingbellError, service?: Service]
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
  | { type: 'failed'; record?: RecordJson; error: CoreError }
  | { type: 'gaveUp'; record: RecordJson; error: CoreError; tries: number }

/** What notices need from their subscriber. */
export interface NoticesHost {
  /** The emitter of the events. */
  readonly emitter: EventEmitter<SubscriberEvents>
  /** The source of messages that are drained but not taken, or -1. */
  holding(): number
  /** Takes the notices of the core. */
  ask(): void
  /** There are new sources. It must not run user code. */
  joined(): void
}

export class Notices implements PendingNotices {
  readonly #native: NativeSubscriber
  readonly #sources: Sources
  readonly #host: NoticesHost
  #kept: Notice[] = []
  readonly #events: EventQueue<SubscriberEvents>
  #postponed = false
  /** The last failure, of a try to attach or of the directory (no `id`); `undefined` once that publisher, or any one, is attached. */
  #failure: { readonly id: string | undefined; readonly error: RingbellError } | undefined
  #closed = false

  constructor(native: NativeSubscriber, sources: Sources, host: NoticesHost) {
    this.#native = native
    this.#sources = sources
    this.#host = host
    this.#events = new EventQueue(host.emitter, 'subscriber', channels.subscriber)
  }

  /** Why the last try to attach failed. */
  get lastFailure(): RingbellError | undefined {
    return this.#failure?.error
  }

  get keeping(): boolean {
    return this.#kept.length > 0 || this.#postponed
  }

  get untold(): boolean {
    return this.#events.pending
  }

  /** Handles the notices of the core, and those that were kept back. */
  take(): void {
    this.#postponed = false
    const json = this.#native.notices()
    const fresh = json === '' ? [] : (JSON.parse(json) as Notice[])
    if (fresh.length > 0 || this.#kept.length > 0) this.#noteAll(fresh)
  }

  /** Handles the kept notices soon, because there may be no further read. */
  takeSoon(): void {
    this.#postponed = false
    setImmediate(() => {
      this.#host.ask()
      this.#noteAll([])
    })
  }

  /** A batch is lent out, so the core cannot be asked now. */
  postpone(): void {
    this.#postponed = true
  }

  /** The subscriber is closed: drops all notices and events. */
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
      if (this.#failure?.id === undefined || this.#failure.id === record.id) this.#failure = undefined
      this.#sources.add(notice.source, publisher, notice.redeliveredBelow)
      this.#events.add('attached', publisher)
      return
    }
    if (notice.type === 'failed') {
      const error = errorOf(notice.error)
      this.#failure = { id: notice.record?.id, error }
      if (notice.record === undefined) this.#events.add('failed', error)
      else this.#events.add('failed', error, serviceOf(notice.record))
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

/** For `NODE_DEBUG=ringbell`. */
function describe(notice: Notice): string {
  switch (notice.type) {
    case 'attached':
      return `attached to ${notice.record.service} ${notice.record.id} by ${notice.rung}, source ${notice.source}`
    case 'failed':
      return `cannot attach to ${notice.record?.service ?? 'any'} ${notice.record?.id ?? ''}: ${notice.error.message}`
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
