/**
 * One reader's lent batches. What an owned drain left comes first, as an owned batch: it is older, and a lent drain would
 * overwrite the table that it needs. Gives back only the batch that this very reader took.
 */
import type { Batch } from './batch.js'
import type { Inflow } from '../../wait/reader.js'
import type { Lending } from './loans.js'
import type { OwnedInflow } from './owned.js'

export class LentBatches<T> implements Inflow<Batch<T>> {
  readonly #owned: OwnedInflow<T>
  readonly #lent: Inflow<Batch<T>>
  readonly #lending: Lending
  #mine: Batch<T> | undefined = undefined

  constructor(owned: OwnedInflow<T>, lent: Inflow<Batch<T>>, lending: Lending) {
    this.#owned = owned
    this.#lent = lent
    this.#lending = lending
  }

  refill(): boolean {
    this.leave()
    if (this.#owned.holding !== -1) return this.#owned.refill()
    this.#lending.assertNothingLent()
    return this.#lent.refill()
  }

  take(): Batch<T> {
    if (this.#owned.holding !== -1) return this.#owned.takeBatch()
    return (this.#mine = this.#lent.take())
  }

  leave(): void {
    const mine = this.#mine
    this.#mine = undefined
    mine?.release()
  }
}
