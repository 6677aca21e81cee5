/**
 * Owned messages: drained into slabs that nobody uses again, taken one by one or as batches. What was drained and not
 * taken stays here, whoever reads next, so nothing is lost when an iteration breaks off.
 */
import { Batch } from '../batch.js'
import type { Codec } from '../codec/index.js'
import { Message } from '../message.js'
import {
  DRAIN_NEEDS_SLAB,
  DRAIN_NOTICE,
  TABLE_WORDS,
  type NativeSubscriber,
  type NativeSubscriberHot,
} from '../native.js'
import { Slabs } from '../slabs.js'
import type { Sources } from '../sources.js'
import { Delivery } from './delivery.js'
import type { Inflow, NoticeBoard } from './inflow.js'

export class OwnedInflow<T> implements Inflow<Message<T>> {
  readonly #drain: NativeSubscriberHot['drain']
  readonly #table: Uint32Array
  readonly #scratch: Float64Array
  readonly #sources: Sources
  readonly #board: NoticeBoard
  readonly #codec: Codec<unknown>
  readonly #slabs = new Slabs()
  #delivery!: Delivery
  #at = 0
  #end = 0

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

  /** The source of what is drained and not taken, -1 when there is nothing. */
  get holding(): number {
    return this.#at < this.#end ? this.#delivery.source.number : -1
  }

  refill(): boolean {
    return this.#at < this.#end || this.#fetch()
  }

  take(): Message<T> {
    const table = this.#table
    const at = this.#at
    this.#at = at + TABLE_WORDS
    if (this.#at === this.#end && this.#board.keeping) this.#board.takeSoon()
    return new Message<T>(
      this.#delivery,
      table[at] as number,
      table[at + 1] as number,
      table[at + 2] as number,
      table[at + 3] as number,
    )
  }

  /** All that is drained, as a batch with a table of its own. */
  takeBatch(): Batch<T> {
    const table = this.#table.slice(this.#at, this.#end)
    this.#at = this.#end
    if (this.#board.keeping) this.#board.takeSoon()
    return new Batch<T>('owned', this.#delivery, table, 0, table.length / TABLE_WORDS)
  }

  /** Whether there are notices to take; takes no message: there is no room in what it offers. */
  peek(): boolean {
    const { bytes } = this.#slabs
    return this.#drain(bytes, bytes.byteLength) === DRAIN_NOTICE
  }

  leave(): void {}

  /** Forgets everything: the subscriber is closed. */
  clear(): void {
    this.#at = this.#end
  }

  #fetch(): boolean {
    if (this.#board.keeping) this.#board.take()
    const slabs = this.#slabs
    const scratch = this.#scratch
    for (;;) {
      slabs.prepare()
      const count = this.#drain(slabs.bytes, slabs.fill)
      if (count > 0) {
        this.#delivery = new Delivery(
          slabs.bytes,
          this.#sources.get(scratch[0] as number),
          this.#codec,
          scratch[2] as number,
          scratch[3] as number,
          false,
        )
        slabs.used(scratch[1] as number)
        this.#at = 0
        this.#end = count * TABLE_WORDS
        return true
      }
      if (count === 0) return false
      if (count === DRAIN_NEEDS_SLAB) slabs.renew(scratch[0] as number)
      else {
        this.#board.take()
        // A listener of that notice may have received messages itself.
        if (this.#at < this.#end) return true
      }
    }
  }
}

/** The same messages, a drain at a time. */
export class OwnedBatches<T> implements Inflow<Batch<T>> {
  readonly #owned: OwnedInflow<T>

  constructor(owned: OwnedInflow<T>) {
    this.#owned = owned
  }

  refill(): boolean {
    return this.#owned.refill()
  }

  take(): Batch<T> {
    return this.#owned.takeBatch()
  }

  leave(): void {}
}
