/**
 * Owned messages: drained into slabs that are not used again, and taken one by one or as batches. Messages that are
 * drained and not taken stay here for the next reader, so nothing is lost when an iteration is left.
 */
import { DRAIN_LARGE, DRAIN_NEEDS_SLAB, DRAIN_NOTICE, TABLE_WORDS } from '../../native.js'
import { Slabs } from '../../slabs.js'
import type { MessageSource } from '../../wait/reader.js'
import { Batch } from './batch.js'
import { Delivery, largeDelivery } from './delivery.js'
import { Message } from './message.js'
import type { PendingNotices, ReaderContext } from './reader-context.js'

export class OwnedSource<T> implements MessageSource<Message<T>> {
  readonly #context: ReaderContext
  readonly #drain: ReaderContext['hot']['drain']
  readonly #table: Uint32Array
  readonly #scratch: Float64Array
  readonly #notices: PendingNotices
  readonly #slabs = new Slabs()
  readonly #acks: ReaderContext['acks']
  #delivery!: Delivery
  #at = 0
  #end = 0

  constructor(context: ReaderContext) {
    const { native, hot, notices } = context
    this.#context = context
    this.#drain = hot.drain
    this.#table = native.table
    this.#scratch = native.scratch
    this.#notices = notices
    this.#acks = context.acks
  }

  /** The source of the messages that are drained and not taken; -1 when there are none. */
  get holding(): number {
    return this.#at < this.#end ? this.#delivery.source.number : -1
  }

  /** Whether there are events that must be emitted before the next message. */
  get untold(): boolean {
    return this.#notices.untold
  }

  /** @throws {RingbellError} `ERR_RINGBELL_BUSY` when that needs a drain while a batch is lent out: its table would change. */
  refill(iterations = 0): boolean {
    this.#acks?.asked()
    return this.#at < this.#end || this.#fetch(iterations)
  }

  take(): Message<T> {
    const table = this.#table
    const at = this.#at
    this.#acks?.took(this.#delivery.source, this.#sequence(at), 1)
    this.#at = at + TABLE_WORDS
    if (this.#at === this.#end && this.#notices.keeping) this.#notices.takeSoon()
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
    const length = table.length / TABLE_WORDS
    this.#acks?.took(this.#delivery.source, this.#sequence(this.#end - TABLE_WORDS), length)
    this.#at = this.#end
    if (this.#notices.keeping) this.#notices.takeSoon()
    return new Batch<T>('owned', this.#delivery, table, 0, length)
  }

  #sequence(at: number): number {
    return this.#delivery.sequence(this.#table[at + 2] as number, this.#table[at + 3] as number)
  }

  /** Whether there are notices to take. It takes no message, because it offers the drain no room. */
  peek(): boolean {
    const { bytes } = this.#slabs
    return this.#drain(bytes, bytes.byteLength, 0) === DRAIN_NOTICE
  }

  leave(): void {}

  /** Drops everything: the subscriber is closed. */
  clear(): void {
    this.#at = this.#end
  }

  #fetch(iterations: number): boolean {
    const { sources, payloads, loans } = this.#context
    loans.assertNothingLent()
    if (this.#notices.keeping) this.#notices.take()
    const slabs = this.#slabs
    const scratch = this.#scratch
    for (;;) {
      slabs.prepare()
      const count = this.#drain(slabs.bytes, slabs.fill, iterations)
      if (count > 0) {
        this.#delivery = new Delivery(
          slabs.bytes,
          sources.get(scratch[0] as number),
          payloads,
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
      if (count === DRAIN_LARGE) {
        this.#delivery = largeDelivery(this.#context)
        this.#at = 0
        this.#end = TABLE_WORDS
        return true
      }
      if (count === DRAIN_NEEDS_SLAB) slabs.renew(scratch[0] as number)
      else this.#notices.take()
    }
  }
}

/** The same messages as batches, one for each drain. */
export class OwnedBatches<T> implements MessageSource<Batch<T>> {
  readonly #owned: OwnedSource<T>

  constructor(owned: OwnedSource<T>) {
    this.#owned = owned
  }

  refill(iterations?: number): boolean {
    return this.#owned.refill(iterations)
  }

  take(): Batch<T> {
    return this.#owned.takeBatch()
  }

  leave(): void {}
}
