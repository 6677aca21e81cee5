/** The publishers that a subscriber reads from, by the core's numbers. A number is never used again. */
import type { Rung, Fallback, Service } from '../bus/service.js'

/**
 * What a subscriber with a durable name found at a publisher. `'new'`: no position under its name. `'resumed'`: its
 * position. `'lost'`: the position was given up, because it was parked for longer than `evictAfter` while the publisher
 * needed room. The messages in between are then counted as missed.
 */
export type DurablePosition = 'new' | 'resumed' | 'lost'

/** A publisher that a subscriber is attached to. */
export interface AttachedPublisher {
  /** The instance. */
  readonly service: Service
  /** How its memory was acquired. */
  readonly rung: Rung
  /** The better rungs that were not taken, and why. */
  readonly fallbacks: readonly Fallback[]
  /** Only for a subscriber with a durable name. */
  readonly position?: DurablePosition
}

/** What the subscriber keeps about one publisher. */
export interface Source {
  readonly number: number
  readonly id: string
  readonly name: string
  readonly publisher: AttachedPublisher | undefined
  /** Messages before this sequence may have been delivered to an earlier subscriber with the durable name. */
  readonly redeliveredBelow: number
  /** Sequence after the last message that was handed out, kept where messages are acknowledged. */
  taken: number
  /** The ring's frames, once leased. */
  memory: Uint8Array | undefined
}

export class Sources {
  readonly #byNumber = new Map<number, Source>()
  #last: Source | undefined

  /** Hot: nearly every call asks for the same source as the last one. */
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

  /** The source with this instance's id; without an id the only source. */
  find(id: string | undefined): Source | undefined {
    for (const source of this.#byNumber.values()) if (id === undefined || source.id === id) return source
    return undefined
  }

  /** Removes a source that has ended, and whose messages are all read. */
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

/**
 * Replaces a source that is not known. This should not happen, because the core reports a publisher before its
 * messages. If it does, no message is lost.
 */
function unknown(number: number): Source {
  return { number, id: '', name: '', publisher: undefined, redeliveredBelow: 0, taken: 0, memory: undefined }
}
