/**
 * The messages of a work queue that were given up. The newest are kept, up to a number and up to a total of bytes, so
 * that a queue whose every job fails does not fill the memory. Older ones are dropped and counted.
 */
import type { MessageHeaders } from '../headers.js'
import type { JobContent } from './job.js'
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
  /** Its headers. */
  readonly headers: MessageHeaders
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
  readonly #contents = new Map<DeadLetter<unknown>, JobContent>()
  #bytes = 0

  constructor(limit: number) {
    this.#limit = limit
  }

  get size(): number {
    return this.#contents.size
  }

  /** The oldest first. */
  get all(): DeadLetter<unknown>[] {
    return [...this.#contents.keys()]
  }

  add(letter: DeadLetter<unknown>, { data, headers }: JobContent): void {
    this.#contents.set(letter, { data, headers })
    this.#bytes += data.byteLength
    for (const [oldest] of this.#contents) {
      if (this.#contents.size <= this.#limit && (this.#bytes <= MOST_BYTES || this.#contents.size === 1)) return
      this.take(oldest)
      this.dropped++
    }
  }

  /** The content of a letter, which stays. `undefined`: it is not in the list. */
  contentOf(letter: DeadLetter<unknown>): JobContent | undefined {
    return this.#contents.get(letter)
  }

  /** `false`: it was not in the list. */
  take(letter: DeadLetter<unknown>): boolean {
    const content = this.#contents.get(letter)
    if (content === undefined) return false
    this.#bytes -= content.data.byteLength
    return this.#contents.delete(letter)
  }

  /** The newest letters, in few bytes. */
  summaries(): DeadLetterSummary[] {
    return [...this.#contents].slice(-MOST_SUMMARIES).map(([{ error, attempts }, { data, headers }]) => {
      const bytes = data.byteLength - headers
      return {
        bytes,
        head: Buffer.from(data.buffer, data.byteOffset, Math.min(HEAD_BYTES, bytes)).toString('base64'),
        code: error.code?.slice(0, LONGEST_TEXT),
        message: error.message.slice(0, LONGEST_TEXT),
        attempts,
      }
    })
  }
}
