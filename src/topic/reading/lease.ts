/**
 * Leased batches: views of the ring itself, until released; only then may the publisher overwrite what was read. The core
 * refuses a lease wherever something could pull the memory away. One Uint8Array per mapping, kept here, and
 * detached by the binding when the subscriber closes.
 */
import { Batch, type Lender } from './batch.js'
import { DRAIN_LARGE } from '../../native.js'
import { Delivery, largeDelivery } from './delivery.js'
import type { Supply } from './reader-context.js'
import type { Inflow } from '../../wait/reader.js'

export class LeaseInflow<T> implements Inflow<Batch<T>>, Lender {
  readonly #supply: Supply
  readonly #table: Uint32Array
  readonly #scratch: Float64Array
  #next: Batch<T> | undefined = undefined
  #source = -1

  constructor(supply: Supply) {
    this.#supply = supply
    this.#table = supply.native.table
    this.#scratch = supply.native.scratch
  }

  refill(): boolean {
    this.#supply.acks?.asked()
    if (this.#next !== undefined) return true
    const { hot, board } = this.#supply
    for (;;) {
      const count = hot.lease()
      if (count > 0) {
        this.#next = this.#batch(count)
        return true
      }
      if (count === 0) return false
      if (count === DRAIN_LARGE) {
        this.#source = this.#scratch[0] as number
        this.#next = new Batch<T>('lease', largeDelivery(this.#supply), this.#table, 0, 1, this)
        return true
      }
      board.take()
    }
  }

  take(): Batch<T> {
    const batch = this.#next as Batch<T>
    this.#next = undefined
    const { lending, acks, sources } = this.#supply
    lending.batch = batch
    acks?.took(sources.get(this.#source), batch.sequence(batch.length - 1), batch.length)
    return batch
  }

  /** Who took a batch gives it back. */
  leave(): void {}

  takeBack(): void {
    const { hot, lending, board } = this.#supply
    lending.batch = undefined
    if (board.keeping) board.takeSoon()
    hot.release(this.#source)
  }

  #batch(count: number): Batch<T> {
    const { native, sources, codec } = this.#supply
    const scratch = this.#scratch
    this.#source = scratch[0] as number
    const source = sources.get(this.#source)
    source.memory ??= new Uint8Array(native.sourceMemory(this.#source))
    const delivery = new Delivery(source.memory, source, codec, scratch[2] as number, scratch[3] as number, true)
    return new Batch<T>('lease', delivery, this.#table, 0, count, this)
  }
}
