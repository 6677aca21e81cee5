/**
 * One opening of a name: this process is a member of all that have it open, until `close()`. The base of lock handles,
 * semaphores, flags and mutexes. Closing gives back what was taken through it, and ends what waits.
 */
import { inSteps } from '../closing.js'
import { closedError } from '../errors.js'
import type { Owner } from './held.js'
import type { Kind, Requests } from './requests.js'

/** Where a member came from. */
export interface Place {
  readonly requests: Requests
  /** Its number. */
  readonly member: number
  readonly name: string
  readonly closed: (member: Member) => void
}

export abstract class Member implements AsyncDisposable, Owner {
  /** The name. */
  readonly name: string
  readonly #kind: Kind
  readonly #place: Place
  #closed = false
  #uses = 0

  /** @internal */
  constructor(kind: Kind, place: Place) {
    this.name = place.name
    this.#kind = kind
    this.#place = place
  }

  /** Whether it is closed. */
  get closed(): boolean {
    return this.#closed
  }

  /** Gives back what was taken through it, and leaves. The last member's end is the end of the memory. Idempotent. */
  async close(): Promise<void> {
    this.closeNow()
  }

  /** `await using`: as `close()`. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.closeNow()
  }

  /** @internal What waits is rejected with this error. */
  closeNow(error: unknown = closedError(this.#kind)): void {
    if (this.#closed) return
    this.#closed = true
    const { requests, member, closed } = this.#place
    inSteps(
      () => closed(this),
      () => requests.leave(member, error),
    )
  }

  /** @internal Whether nothing is taken through it, and nothing waits. */
  get idle(): boolean {
    return this.#uses === 0
  }

  /** @internal */
  giveBack(code: number): void {
    this.#uses--
    this.#place.requests.release(code)
  }

  /** @internal Text for errors: `lock 'orders'`. */
  protected get what(): string {
    return `${this.#kind} '${this.name}'`
  }

  /** @internal Throws `ERR_RINGBELL_CLOSED`. */
  protected opened(): Place {
    if (this.#closed) throw closedError(this.#kind)
    return this.#place
  }

  /** @internal Counts one use, until it is given back. `code`: of what was taken, at once or later; 0: nothing. */
  protected used(code: number): number
  /** @internal */
  protected used(code: number | Promise<number>): number | Promise<number>
  /** @internal */
  protected used(code: number | Promise<number>): number | Promise<number> {
    if (typeof code !== 'number') return this.#usedLater(code)
    if (code !== 0) this.#uses++
    return code
  }

  async #usedLater(taking: Promise<number>): Promise<number> {
    this.#uses++
    let code = 0
    try {
      return (code = await taking)
    } finally {
      if (code === 0) this.#uses--
    }
  }
}
