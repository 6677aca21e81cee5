/**
 * The batches that one reader borrows. Messages that an owned drain has left come first, as an owned batch: they are
 * older, and the next drain would overwrite the table that they need. A reader gives back only the batch that it took
 * itself.
 */
import type { MessageSource } from '../../wait/reader.js'
import type { Batch } from './batch.js'
import type { Loans } from './loans.js'
import type { OwnedSource } from './owned.js'

export class BorrowedBatches<T> implements MessageSource<Batch<T>> {
  readonly #owned: OwnedSource<T>
  readonly #lent: MessageSource<Batch<T>>
  readonly #loans: Loans
  #mine: Batch<T> | undefined = undefined

  constructor(owned: OwnedSource<T>, lent: MessageSource<Batch<T>>, loans: Loans) {
    this.#owned = owned
    this.#lent = lent
    this.#loans = loans
  }

  refill(iterations?: number): boolean {
    this.leave()
    if (this.#owned.holding !== -1) return this.#owned.refill()
    this.#loans.assertNothingLent()
    return this.#lent.refill(iterations)
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
