/**
 * What a subscriber has lent out: one batch at a time, whoever asked for it. All inflows share the binding's table, so
 * while a batch over it is out nothing may be drained; and only who borrowed it (or `release()`) gives it back.
 */
import { busy } from '../../errors.js'

/** What is given back by its borrower, or when the subscriber closes. */
export interface Lent {
  release(): void
}

export class Lending {
  /** The batch that is out. */
  batch: Lent | undefined = undefined

  /** @throws {RingbellError} `ERR_RINGBELL_BUSY`. */
  assertNothingLent(): void {
    if (this.batch !== undefined) throw busy('has lent out a batch')
  }
}
