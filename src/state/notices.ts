/** What happens to the reader of a state besides values: writers that come and go. The notices of the core become events. */
import type { EventEmitter } from 'node:events'
import { type Fallback, type RecordJson, type Rung, type Service, serviceOf } from '../bus/service.js'
import { channels, debug } from '../diagnostics.js'
import { asRingbellError, type CoreError, errorOf, type RingbellError } from '../errors.js'
import { EventQueue } from '../wait/event-queue.js'

/** The writer that a reader is attached to. */
export interface AttachedWriter {
  /** The instance. */
  readonly service: Service
  /** How its memory was acquired. */
  readonly rung: Rung
  /** The better rungs that were not taken, and why. */
  readonly fallbacks: readonly Fallback[]
}

/** The events of a reader of a state. A value is never among them. There are no events after `close()`. */
export interface StateReaderEvents {
  /** A writer was found. Its values are read once it has set one; until then, the last value of the writer before is. */
  attached: [writer: AttachedWriter]
  /** A writer has `'closed'`, `'died'` or `'failed'`. The last value stays readable, unless the writer broke the shared memory. */
  ended: [writer: AttachedWriter, reason: string]
  /** The connection of a stream ended although its writer lives, and all `tries` to connect again failed. */
  gaveUp: [service: Service, error: RingbellError, tries: number]
  /** A writer could not be attached, or broke the protocol. Without a `service`, the bus directory cannot be read. */
  failed: [error: RingbellError, service?: Service]
}

type Notice =
  | { type: 'attached'; record: RecordJson; rung: Rung; fallbacks: Fallback[] }
  | { type: 'ended'; record: RecordJson; reason: string; error: CoreError | null }
  | { type: 'failed'; record: RecordJson | null; error: CoreError }
  | { type: 'gaveUp'; record: RecordJson; error: CoreError; tries: number }

export class StateNotices {
  readonly #take: () => string
  readonly #writers = new Map<string, AttachedWriter>()
  readonly #events: EventQueue<StateReaderEvents>
  /** Why nothing can be read, in words. */
  lastFailure: string | undefined

  /** `take`: the core's notices as JSON. */
  constructor(emitter: EventEmitter<StateReaderEvents>, take: () => string) {
    this.#take = take
    this.#events = new EventQueue(emitter, 'stateReader', channels.stateReader)
  }

  /** The attached writers. Mostly there is one at most. */
  get writers(): AttachedWriter[] {
    return [...this.#writers.values()]
  }

  /** Takes the notices of the core. Their events follow soon. */
  take(): void {
    const json = this.#take()
    if (json === '') return
    for (const notice of JSON.parse(json) as Notice[]) this.#note(notice)
  }

  /** The core failed while nothing waited that could be told. */
  failed(error: unknown): void {
    this.#events.add('failed', asRingbellError(error, 'state reader'))
  }

  /** The reader is closed. */
  clear(): void {
    this.#events.clear()
    this.#writers.clear()
  }

  #note(notice: Notice): void {
    debug('state %s: %s', notice.record?.service ?? '', notice.type)
    switch (notice.type) {
      case 'attached': {
        const { record, rung, fallbacks } = notice
        const writer = { service: serviceOf(record), rung, fallbacks }
        this.#writers.set(record.id, writer)
        this.lastFailure = undefined
        this.#events.add('attached', writer)
        break
      }
      case 'ended': {
        const writer = this.#writers.get(notice.record.id)
        this.#writers.delete(notice.record.id)
        if (notice.error !== null) this.#failed(notice.error, notice.record)
        if (writer !== undefined) this.#events.add('ended', writer, notice.reason)
        break
      }
      case 'failed':
        this.#failed(notice.error, notice.record)
        break
      case 'gaveUp':
        this.#events.add('gaveUp', serviceOf(notice.record), errorOf(notice.error), notice.tries)
    }
  }

  #failed(problem: CoreError, record: RecordJson | null): void {
    const error = errorOf(problem)
    this.lastFailure = error.message
    if (record === null) this.#events.add('failed', error)
    else this.#events.add('failed', error, serviceOf(record))
  }
}
