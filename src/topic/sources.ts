/** The publishers that a subscriber reads from, by the core's numbers. A number is never used again. */
import type { Rung, Fallback, Service } from '../bus/service.js'

/**
 * What a subscriber with a durable name found: no position under it, its position, or that the publisher has gone on without
 * it, since it was parked for longer than `evictAfter` while room was wanted. What lies between is then counted as missed.
 */
export type DurablePosition = 'new' | 'resumed' | 'lost'

/** A publisher that a subscriber is attached to. */
export interface AttachedPublisher {
  /** The instance. */
  readonly service: Service
  /** How its memory was acquired. */
  readonly rung: Rung
  /** The rungs above that were tried, and why they did not do. */
  readonly fallbacks: readonly Fallback[]
  /** Of a subscriber with a durable name. */
  readonly position?: DurablePosition
}

/** The subscriber's own notes on one. */
export interface Source {
  readonly number: number
  readonly id: string
  readonly name: string
  readonly publisher: AttachedPublisher | undefined
  /** Messages before this sequence may have been delivered to an earlier holder of the durable name. */
  readonly redeliveredBelow: number
  /** Sequence after the last message that was handed out, kept where messages are acknowledged. */
  taken: number
  /** The ring's frames, once leased. */
  memory: Uint8Array | undefined
}

export class Sources {
  readonly #byNumber = new Map<number, Source>()
  #last: Source | undefined

  /** Hot: nearly always asked for the same one again. */
  get(number: number): Source {
    const last = this.#last
    if (last !== undefined && last.number === number) return last
    return (this.#last = this.#byNumber.get(number) ?? unknown(number))
  }

  add(number: number, publisher: AttachedPublisher, redeliveredBelow = 0): void {
    const { id, name } = publisher.service
    this.#byNumber.set(number, { number, id, name, publisher, redeliveredBelow, taken: 0, memory: undefined })
    this.#last = undefined
  }

  /** The one with this instance's id; without an id the only one there is. */
  find(id: string | undefined): Source | undefined {
    for (const source of this.#byNumber.values()) if (id === undefined || source.id === id) return source
    return undefined
  }

  /** It ended, and all of its messages are read. */
  remove(number: number): AttachedPublisher | undefined {
    const publisher = this.#byNumber.get(number)?.publisher
    this.#byNumber.delete(number)
    this.#last = undefined
    return publisher
  }

  publisher(number: number): AttachedPublisher | undefined {
    return this.#byNumber.get(number)?.publisher
  }

  publishers(): AttachedPublisher[] {
    const all: AttachedPublisher[] = []
    for (const { publisher } of this.#byNumber.values()) if (publisher !== undefined) all.push(publisher)
    return all
  }

  get size(): number {
    return this.#byNumber.size
  }
}

/** Cannot happen while the core tells of a publisher before its messages; a message is never lost over it. */
function unknown(number: number): Source {
  return { number, id: '', name: '', publisher: undefined, redeliveredBelow: 0, taken: 0, memory: undefined }
}
