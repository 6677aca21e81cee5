/**
 * The messages of a work queue that were given up. The newest are kept, up to a number and up to a total of bytes, so
 * that a queue whose every job fails does not fill the memory. Older ones are dropped and counted.
 */
import type { RemoteError } from './remote-error.js'
import type { RingbellError } from '../errors.js'

/** A message that was given up after its last attempt. */
export interface DeadLetter<T = Uint8Array> {
  /** The message; bytes, if the codec cannot decode it. */
  readonly job: T
  /** The error of the last worker, or why the outcome is unknown. */
  readonly error: RingbellError | RemoteError
  /** How often it was delivered. */
  readonly attempts: number
}

/** A dead letter as another process sees it: the beginning of its bytes, and its error in words. */
export interface DeadLetterSummary {
  /** Bytes of the message. */
  readonly bytes: number
  /** The first of them, at most 96, as base64. */
  readonly head: string
  /** The code of the last attempt's error. */
  readonly code: string | undefined
  /** Its message, cut to 200 characters. */
  readonly message: string
  /** How many attempts there were. */
  readonly attempts: number
}

/** The most bytes of all letters together. The newest letter is kept even if it is larger. */
const MOST_BYTES = 64 * 2 ** 20
/** What others see of a letter, and of how many letters. */
const HEAD_BYTES = 96
const LONGEST_TEXT = 200
const MOST_SUMMARIES = 16

export class DeadLetters {
  /** Letters that were dropped because there were too many. */
  dropped = 0
  readonly #limit: number
  readonly #data = new Map<DeadLetter<unknown>, Uint8Array>()
  #bytes = 0

  constructor(limit: number) {
    this.#limit = limit
  }

  get size(): number {
    return this.#data.size
  }

  /** The oldest first. */
  get all(): DeadLetter<unknown>[] {
    return [...this.#data.keys()]
  }

  add(letter: DeadLetter<unknown>, data: Uint8Array): void {
    this.#data.set(letter, data)
    this.#bytes += data.byteLength
    for (const [oldest] of this.#data) {
      if (this.#data.size <= this.#limit && (this.#bytes <= MOST_BYTES || this.#data.size === 1)) return
      this.take(oldest)
      this.dropped++
    }
  }

  /** The bytes of a letter, which stays. `undefined`: it is not in the list. */
  dataOf(letter: DeadLetter<unknown>): Uint8Array | undefined {
    return this.#data.get(letter)
  }

  /** `false`: it was not in the list. */
  take(letter: DeadLetter<unknown>): boolean {
    const data = this.#data.get(letter)
    if (data === undefined) return false
    this.#bytes -= data.byteLength
    return this.#data.delete(letter)
  }

  /** The newest letters, in few bytes. */
  summaries(): DeadLetterSummary[] {
    return [...this.#data].slice(-MOST_SUMMARIES).map(([{ error, attempts }, data]) => ({
      bytes: data.byteLength,
      head: Buffer.from(data.buffer, data.byteOffset, Math.min(HEAD_BYTES, data.byteLength)).toString('base64'),
      code: error.code?.slice(0, LONGEST_TEXT),
      message: error.message.slice(0, LONGEST_TEXT),
      attempts,
    }))
  }
}
