/**
 * What a subscriber has lent out: one batch at a time, whoever asked for it. All inflows share the binding's table, so
 * while a batch over it is out nothing may be drained; and only who borrowed it (or `release()`) gives it back.
 */
import type { Batch } from '../batch.js'
import { busy } from '../errors.js'

export class Lending {
  /** The batch that is out. */
  batch: Batch<unknown> | undefined = undefined

  /** @throws {RingbellError} `ERR_RINGBELL_BUSY`. */
  assertNothingLent(): void {
    if (this.batch !== undefined) throw busy('has lent out a batch')
  }
}
