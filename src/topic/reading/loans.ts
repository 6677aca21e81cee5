/**
 * The batch that a subscriber has lent out; there is one at a time. All its sources share the table of the binding, so
 * nothing may be drained while a batch over that table is lent out. Only the borrower, or `release()`, gives it back.
 */
import { busy } from '../../errors.js'

/** Something that its borrower gives back, or the subscriber when it closes. */
interface Lent {
  release(): void
}

export class Loans {
  /** The batch that is lent out. */
  batch: Lent | undefined = undefined

  /** @throws {RingbellError} `ERR_RINGBELL_BUSY`. */
  assertNothingLent(): void {
    if (this.batch !== undefined) throw busy('has lent out a batch')
  }
}
