/**
 * The messages of one drain, of one publisher, in order. Use it by index: `data(i)` makes a view; `offset(i)` and
 * `byteLength(i)` make nothing. Its `lifetime` says how long it may be used: `owned` without a limit, `borrowed` and
 * `lease` until `release()` or the next step of the iteration. After that the memory belongs to other messages.
 */
import { invalid } from '../../invalid.js'
import { RingbellError, translated } from '../../errors.js'
import type { MessageHeaders } from '../../headers.js'
import { TABLE_WORDS } from '../../native.js'
import { shown, type ShownOptions } from '../../shown.js'
import type { Delivery } from './delivery.js'
import { Message, type MessageJson } from './message.js'

/**
 * The memory of a batch. `owned`: it is yours. `borrowed`: it is a slab of the subscriber, which is used again.
 * `lease`: it is the ring itself, read-only. Writing to a lease kills the process, and text in it must be copied
 * (`slice()`) before it is decoded.
 */
export type Lifetime = 'owned' | 'borrowed' | 'lease'

/** Something that takes a batch back. */
export interface Lender {
  takeBack(): void
}

/**
 * Messages of one publisher that were taken out of its ring together. Two batches are equal for `assert.deepStrictEqual` and its like if
 * they have the same messages; to compare what they say, compare the values. `structuredClone` and `postMessage` do not carry it.
 */
export class Batch<T = Uint8Array> implements Iterable<Message<T>> {
  /** Messages in it, at least one. */
  readonly length: number
  /** The memory of the messages. */
  readonly lifetime: Lifetime
  readonly #delivery: Delivery
  readonly #table: Uint32Array
  readonly #from: number
  #lender: Lender | undefined
  #released = false

  /** @internal */
  constructor(
    lifetime: Lifetime,
    delivery: Delivery,
    table: Uint32Array,
    from: number,
    length: number,
    lender?: Lender,
  ) {
    this.length = length
    this.lifetime = lifetime
    this.#delivery = delivery
    this.#table = table
    this.#from = from
    this.#lender = lender
  }

  /** The memory in which `offset(i)` is a position. */
  get bytes(): Uint8Array {
    if (this.#released) throw released()
    return this.#delivery.bytes
  }

  /** The id of the publisher's instance. */
  get publisher(): string {
    return this.#delivery.source.id
  }

  /** The publisher's service name. */
  get service(): string {
    return this.#delivery.source.name
  }

  /**
   * A view of message `i`.
   *
   * @throws {RingbellError} `ERR_RINGBELL_RELEASED`; `ERR_RINGBELL_INVALID_OPTION` for an index out of range. All
   * methods with an index throw these.
   */
  data(i: number): Uint8Array {
    const at = this.#entry(i)
    return this.#delivery.data(this.#table[at] as number, this.#table[at + 1] as number)
  }

  /**
   * Message `i`, decoded by the subscriber's codec (from a copy, if the value could point into memory that is not
   * yours), as its schema returns it.
   *
   * @throws {RingbellError} `ERR_RINGBELL_CODEC` when the bytes are not what the codec expects, `ERR_RINGBELL_SCHEMA` when the value is
   * not what the schema expects.
   */
  value(i: number): T {
    const data = this.data(i)
    return this.#delivery.payloads.decodeMessage(this.#delivery.copies ? data.slice() : data) as T
  }

  /** The headers of message `i`. With another lifetime than `owned` they are copied at the first access. */
  headers(i: number): MessageHeaders {
    const at = this.#entry(i)
    return this.#delivery.headers(this.#table[at] as number, this.#table[at + 1] as number)
  }

  /** Where message `i` begins in `bytes`. */
  offset(i: number): number {
    return this.#table[this.#entry(i)] as number
  }

  /** Bytes of message `i`. */
  byteLength(i: number): number {
    return this.#table[this.#entry(i) + 1] as number
  }

  /** The sequence number of message `i` at its publisher. */
  sequence(i: number): number {
    const at = this.#entry(i)
    return this.#delivery.sequence(this.#table[at + 2] as number, this.#table[at + 3] as number)
  }

  /** Whether message `i` may have been received before, by an earlier subscriber with the same durable name. */
  redelivered(i: number): boolean {
    return this.sequence(i) < this.#delivery.source.redeliveredBelow
  }

  /** When message `i` was committed, in nanoseconds of CLOCK_MONOTONIC. */
  time(i: number): bigint {
    return this.#delivery.time(this.#table[this.#entry(i) + 2] as number)
  }

  /** Its messages as objects. They are valid as long as the batch. */
  *[Symbol.iterator](): IterableIterator<Message<T>> {
    for (let i = 0; i < this.length; i++) {
      const at = this.#entry(i)
      const table = this.#table
      yield new Message<T>(
        this.#delivery,
        table[at] as number,
        table[at + 1] as number,
        table[at + 2] as number,
        table[at + 3] as number,
      )
    }
  }

  /**
   * Gives it back. This is required for a batch of `tryReceiveBatch`; an iteration does it by itself. Do not use its
   * views after that.
   */
  release(): void {
    if (this.#released || this.lifetime === 'owned') return
    this.#released = true
    const lender = this.#lender
    this.#lender = undefined
    translated(() => lender?.takeBack())
  }

  /** `using`: as `release()`. */
  [Symbol.dispose](): void {
    this.release()
  }

  /** Libraries that compare objects look at this: the state is private. */
  get [Symbol.toStringTag](): string {
    return `Batch ${this.#span} of ${this.service} ${this.publisher}`
  }

  /** What `JSON.stringify` writes: its messages. Throws `ERR_RINGBELL_RELEASED`, and as `value` does. */
  toJSON(): MessageJson<T>[] {
    return Array.from(this, (message) => message.toJSON())
  }

  /** What `console.log` shows. */
  [Symbol.for('nodejs.util.inspect.custom')](depth: number | null, options: ShownOptions): string {
    const { lifetime, service, publisher, length } = this
    const rest = this.#released ? { released: true } : { messages: [...this] }
    return shown('Batch', { lifetime, service, publisher, length, ...rest }, depth, options)
  }

  /** Which messages it has. */
  get #span(): string {
    return this.#released ? 'given back' : `${this.sequence(0)}+${this.length}`
  }

  #entry(i: number): number {
    if (this.#released) throw released()
    if (typeof i !== 'number' || i >>> 0 !== i || i >= this.length)
      throw invalid('i', i, `must be an index in this batch of ${this.length} messages`)
    return this.#from + i * TABLE_WORDS
  }
}

function released(): RingbellError {
  return new RingbellError(
    'ERR_RINGBELL_RELEASED',
    "This batch was given back; its memory holds other messages now. Copy what you keep, or receive with lifetime 'owned'.",
  )
}
