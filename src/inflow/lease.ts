/**
 * Leased batches: views of the ring itself, until released; only then may the publisher overwrite what was read. The core
 * refuses a lease wherever something could pull the memory away (DESIGN 7). One Uint8Array per mapping, kept here, and
 * detached by the binding when the subscriber closes.
 */
import { Batch, type Lender } from '../batch.js'
import type { Codec } from '../codec/index.js'
import type { NativeSubscriber, NativeSubscriberHot } from '../native.js'
import type { Sources } from '../sources.js'
import { Delivery } from './delivery.js'
import type { Inflow, NoticeBoard } from './inflow.js'

export class LeaseInflow<T> implements Inflow<Batch<T>>, Lender {
  readonly #native: NativeSubscriber
  readonly #hot: NativeSubscriberHot
  readonly #sources: Sources
  readonly #board: NoticeBoard
  readonly #codec: Codec<unknown>
  #next: Batch<T> | undefined = undefined
  #lent: Batch<T> | undefined = undefined
  #source = -1

  constructor(
    native: NativeSubscriber,
    hot: NativeSubscriberHot,
    sources: Sources,
    board: NoticeBoard,
    codec: Codec<unknown>,
  ) {
    this.#native = native
    this.#hot = hot
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
    for (;;) {
      const count = this.#hot.lease()
      if (count > 0) {
        this.#next = this.#batch(count)
        return true
      }
      if (count === 0) return false
      this.#board.take()
    }
  }

  take(): Batch<T> {
    const batch = this.#next as Batch<T>
    this.#next = undefined
    this.#lent = batch
    return batch
  }

  /** Also gives back what was leased and never taken: it will be leased, or copied, again. */
  leave(): void {
    this.#lent?.release()
  }

  takeBack(): void {
    this.#lent = undefined
    if (this.#board.keeping) this.#board.takeSoon()
    this.#hot.release(this.#source)
  }

  #batch(count: number): Batch<T> {
    const { scratch, table } = this.#native
    this.#source = scratch[0] as number
    const source = this.#sources.get(this.#source)
    source.memory ??= new Uint8Array(this.#native.sourceMemory(this.#source))
    const delivery = new Delivery(source.memory, source, this.#codec, scratch[2] as number, scratch[3] as number, true)
    return new Batch<T>('lease', delivery, table, 0, count, this)
  }
}
