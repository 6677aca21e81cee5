/**
 * What a subscriber has lent out: one batch at a time. All its sources share the binding's table, so nothing may be drained while a batch
 * over that table is out. Only the borrower, or `release()`, gives it back.
 */
import { busy } from '../../errors.js'

/** What is given back by its borrower, or when the subscriber closes. */
interface Lent {
  release(): void
}

export class Loans {
  /** The batch that is out. */
  batch: Lent | undefined = undefined

  /** @throws {RingbellError} `ERR_RINGBELL_BUSY`. */
  assertNothingLent(): void {
    if (this.batch !== undefined) throw busy('has lent out a batch')
  }
}
