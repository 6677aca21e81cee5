/** A term: the time in which one member is the primary of its group, with an epoch that is larger than that of every earlier term. */
import type { RingbellError } from '../errors.js'
import { membersOf, shown, type ShownOptions } from '../shown.js'

/** The time in which a member is primary; `await member.primary` gives it. */
export class Term {
  /** Larger than that of every earlier term of the group. What acts for the group sends it along, so that others can refuse what is late. */
  readonly epoch: number
  /**
   * Fires when the term ends, with the reason: `ERR_RINGBELL_NOT_PRIMARY` (it stepped down), `ERR_RINGBELL_CLAIM_LOST` or
   * `ERR_RINGBELL_CLOSED`. At a step-down no other member can act yet. Stop what you do as primary.
   */
  readonly signal: AbortSignal
  /** Resolves with that reason when another member can be primary. It never rejects. */
  readonly ended: Promise<RingbellError>
  readonly #abort = new AbortController()
  #end: (reason: RingbellError) => void = () => {}

  /** @internal A member makes it. */
  constructor(epoch: number) {
    this.epoch = epoch
    this.signal = this.#abort.signal
    this.ended = new Promise((resolve) => (this.#end = resolve))
  }

  /** What `console.log` shows. */
  [Symbol.for('nodejs.util.inspect.custom')](depth: number | null, options: ShownOptions): string {
    return shown('Term', membersOf(this, 'epoch', 'signal'), depth, options)
  }

  /** @internal It is about to end: what acts for it must stop. */
  abort(reason: RingbellError): void {
    this.#abort.abort(reason)
  }

  /** @internal Another member can be primary. */
  end(reason: RingbellError): void {
    this.#end(reason)
  }
}
