/**
 * Borrowed batches: one slab, which is filled again as soon as its batch is given back. The slab is private memory, so
 * a peer cannot change what is read. The table belongs to the binding, and is valid as long as the batch.
 */
import { bytes, json } from '../../codec/index.js'
import { DRAIN_LARGE, DRAIN_NEEDS_SLAB } from '../../native.js'
import { LARGEST_SLAB } from '../../slabs.js'
import { untransferable } from '../../untransferable.js'
import type { MessageSource } from '../../wait/reader.js'
import { Batch, type Lender } from './batch.js'
import { Delivery, largeDelivery } from './delivery.js'
import type { ReaderContext } from './reader-context.js'

/** After so many drains in a row that fit into an ordinary slab, an oversized slab is given up. */
const PATIENCE = 64

export class BorrowedSource<T> implements MessageSource<Batch<T>>, Lender {
  readonly #context: ReaderContext
  readonly #drain: ReaderContext['hot']['drain']
  readonly #table: Uint32Array
  readonly #scratch: Float64Array
  readonly #aliases: boolean
  #slab: Uint8Array = untransferable(new Uint8Array(LARGEST_SLAB))
  #oversized = 0
  #source = -1
  #next: Batch<T> | undefined = undefined

  constructor(context: ReaderContext) {
    const { native, hot, payloads } = context
    this.#context = context
    this.#drain = hot.drain
    this.#table = native.table
    this.#scratch = native.scratch
    // With these two codecs no copy is needed: a value of `json` does not point into the slab, and a value of `bytes`
    // is the view.
    this.#aliases = payloads.codec !== bytes && payloads.codec !== json
  }

  refill(iterations = 0): boolean {
    this.#context.acks?.asked()
    if (this.#next !== undefined) return true
    const { sources, notices, payloads } = this.#context
    const scratch = this.#scratch
    if (this.#oversized > PATIENCE) this.#renew(LARGEST_SLAB)
    for (;;) {
      const count = this.#drain(this.#slab, 0, iterations)
      if (count > 0) {
        this.#source = scratch[0] as number
        const source = sources.get(this.#source)
        const slab = this.#slab
        if (slab.byteLength > LARGEST_SLAB) this.#notePlenty(scratch[1] as number)
        const delivery = new Delivery(slab, source, payloads, scratch[2] as number, scratch[3] as number, this.#aliases)
        this.#next = new Batch<T>('borrowed', delivery, this.#table, 0, count, this)
        return true
      }
      if (count === 0) return false
      if (count === DRAIN_LARGE) {
        this.#next = new Batch<T>('borrowed', largeDelivery(this.#context), this.#table, 0, 1, this)
        return true
      }
      if (count === DRAIN_NEEDS_SLAB) this.#renew(scratch[0] as number)
      else notices.take()
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
    const { loans, notices } = this.#context
    loans.batch = undefined
    if (notices.keeping) notices.takeSoon()
  }

  #notePlenty(used: number): void {
    this.#oversized = used > LARGEST_SLAB ? 0 : this.#oversized + 1
  }

  #renew(bytes: number): void {
    this.#slab = untransferable(new Uint8Array(bytes))
    this.#oversized = 0
  }
}
