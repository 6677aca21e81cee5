/** First what an earlier reader left drained, as one owned batch, then lent batches. */
import type { Batch } from '../batch.js'
import type { Inflow } from './inflow.js'
import type { OwnedInflow } from './owned.js'

export class Leftovers<T> implements Inflow<Batch<T>> {
  readonly #owned: OwnedInflow<T>
  readonly #lending: () => Inflow<Batch<T>>

  constructor(owned: OwnedInflow<T>, lending: () => Inflow<Batch<T>>) {
    this.#owned = owned
    this.#lending = lending
  }

  refill(): boolean {
    return this.#owned.holding !== -1 || this.#lending().refill()
  }

  take(): Batch<T> {
    return this.#owned.holding === -1 ? this.#lending().take() : this.#owned.takeBatch()
  }

  leave(): void {
    this.#lending().leave()
  }
}
