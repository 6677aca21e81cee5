/**
 * Borrowed batches: one hot slab, filled again as soon as the batch over it has been given back. Private memory, so
 * nothing that a peer does can harm whoever reads it. The table is the binding's own, valid for as long.
 */
import { Batch, type Lender } from '../batch.js'
import type { Codec } from '../codec/index.js'
import { DRAIN_NEEDS_SLAB, type NativeSubscriber, type NativeSubscriberHot } from '../native.js'
import { LARGEST_SLAB } from '../slabs.js'
import type { Sources } from '../sources.js'
import { Delivery } from './delivery.js'
import type { Inflow, NoticeBoard } from './inflow.js'

export class BorrowedInflow<T> implements Inflow<Batch<T>>, Lender {
  readonly #drain: NativeSubscriberHot['drain']
  readonly #table: Uint32Array
  readonly #scratch: Float64Array
  readonly #sources: Sources
  readonly #board: NoticeBoard
  readonly #codec: Codec<unknown>
  #slab: Uint8Array = new Uint8Array(LARGEST_SLAB)
  #next: Batch<T> | undefined = undefined
  #lent: Batch<T> | undefined = undefined

  constructor(
    native: NativeSubscriber,
    hot: NativeSubscriberHot,
    sources: Sources,
    board: NoticeBoard,
    codec: Codec<unknown>,
  ) {
    this.#drain = hot.drain
    this.#table = native.table
    this.#scratch = native.scratch
    this.#sources = sources
    this.#board = board
    this.#codec = codec
  }

  /** Whether a batch is out that has not been given back. */
  get lending(): boolean {
    return this.#lent !== undefined || this.#next !== undefined
  }

  refill(): boolean {
    if (this.#next !== undefined) return true
    this.#lent?.release()
    const scratch = this.#scratch
    for (;;) {
      const count = this.#drain(this.#slab, 0)
      if (count > 0) {
        const source = this.#sources.get(scratch[0] as number)
        const delivery = new Delivery(
          this.#slab,
          source,
          this.#codec,
          scratch[2] as number,
          scratch[3] as number,
          false,
        )
        this.#next = new Batch<T>('borrowed', delivery, this.#table, 0, count, this)
        return true
      }
      if (count === 0) return false
      if (count === DRAIN_NEEDS_SLAB) this.#slab = new Uint8Array(scratch[0] as number)
      else this.#board.take()
    }
  }

  take(): Batch<T> {
    const batch = this.#next as Batch<T>
    this.#next = undefined
    this.#lent = batch
    return batch
  }

  leave(): void {
    this.#lent?.release()
  }

  takeBack(): void {
    this.#lent = undefined
    if (this.#board.keeping) this.#board.takeSoon()
  }
}
