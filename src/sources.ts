/** The publishers that a subscriber reads from, by the core's number for each. Numbers are not used again. */
import type { Rung, Service } from './service.js'

/** Why a rung of the ladder was not taken. */
export interface StepDown {
  readonly rung: Rung
  readonly code: string
  readonly reason: string
}

/** A publisher that a subscriber is attached to. */
export interface AttachedPublisher {
  readonly service: Service
  /** How its memory was acquired. */
  readonly rung: Rung
  /** The rungs above that were tried, and why they did not do. */
  readonly stepDowns: readonly StepDown[]
}

/** The subscriber's own notes on one. */
export interface Source {
  readonly number: number
  readonly id: string
  readonly name: string
  readonly publisher: AttachedPublisher | undefined
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

  add(number: number, publisher: AttachedPublisher): void {
    const { id, name } = publisher.service
    this.#byNumber.set(number, { number, id, name, publisher, memory: undefined })
    this.#last = undefined
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
  return { number, id: '', name: '', publisher: undefined, memory: undefined }
}
