/**
 * Leased batches: views of the ring itself. The publisher cannot overwrite what they show before they are released. The
 * core refuses a lease if something could take the memory away. There is one Uint8Array per mapping; the binding
 * detaches it when the subscriber closes.
 */
import { DRAIN_LARGE } from '../../native.js'
import type { MessageSource } from '../../wait/reader.js'
import { Batch, type Lender } from './batch.js'
import { Delivery, largeDelivery } from './delivery.js'
import type { ReaderContext } from './reader-context.js'

export class LeaseSource<T> implements MessageSource<Batch<T>>, Lender {
  readonly #context: ReaderContext
  readonly #table: Uint32Array
  readonly #scratch: Float64Array
  #next: Batch<T> | undefined = undefined
  #source = -1

  constructor(context: ReaderContext) {
    this.#context = context
    this.#table = context.native.table
    this.#scratch = context.native.scratch
  }

  refill(iterations = 0): boolean {
    this.#context.acks?.asked()
    if (this.#next !== undefined) return true
    const { hot, notices } = this.#context
    for (;;) {
      const count = hot.lease(iterations)
      if (count > 0) {
        this.#next = this.#batch(count)
        return true
      }
      if (count === 0) return false
      if (count === DRAIN_LARGE) {
        this.#source = this.#scratch[0] as number
        this.#next = new Batch<T>('lease', largeDelivery(this.#context), this.#table, 0, 1, this)
        return true
      }
      notices.take()
    }
  }

  take(): Batch<T> {
    const batch = this.#next as Batch<T>
    this.#next = undefined
    const { loans, acks, sources } = this.#context
    loans.batch = batch
    acks?.took(sources.get(this.#source), batch.sequence(batch.length - 1), batch.length)
    return batch
  }

  /** The reader that took a batch gives it back. */
  leave(): void {}

  takeBack(): void {
    const { hot, loans, notices } = this.#context
    loans.batch = undefined
    if (notices.keeping) notices.takeSoon()
    hot.release(this.#source)
  }

  #batch(count: number): Batch<T> {
    const { native, sources, payloads } = this.#context
    const scratch = this.#scratch
    this.#source = scratch[0] as number
    const source = sources.get(this.#source)
    source.memory ??= new Uint8Array(native.sourceMemory(this.#source))
    const delivery = new Delivery(source.memory, source, payloads, scratch[2] as number, scratch[3] as number, true)
    return new Batch<T>('lease', delivery, this.#table, 0, count, this)
  }
}
