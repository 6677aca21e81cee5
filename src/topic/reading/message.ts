/**
 * One message, which belongs to its receiver. It is cheap to make: five words. The view of its bytes, its value and its time are made when
 * they are first asked for. It keeps the whole slab alive that it was copied into: to keep few of many small messages for long, keep
 * `data.slice()` instead.
 */
import { decodeWith } from '../../codec/index.js'
import type { Delivery } from './delivery.js'

const UNREAD = Symbol('unread')

/** One message, its place in the order, and where it came from. */
export class Message<T = Uint8Array> {
  readonly #delivery: Delivery
  readonly #offset: number
  readonly #length: number
  readonly #batch: number
  readonly #index: number
  #data: Uint8Array | undefined = undefined
  #value: unknown = UNREAD

  /** @internal */
  constructor(delivery: Delivery, offset: number, length: number, batch: number, index: number) {
    this.#delivery = delivery
    this.#offset = offset
    this.#length = length
    this.#batch = batch
    this.#index = index
  }

  /** The bytes. The same view each time. */
  get data(): Uint8Array {
    return (this.#data ??= this.#delivery.data(this.#offset, this.#length))
  }

  /** Bytes in `data`, without making it. */
  get byteLength(): number {
    return this.#length
  }

  /**
   * The value, decoded once by the subscriber's codec; with `bytes` the same as `data`.
   *
   * @throws {RingbellError} `ERR_RINGBELL_CODEC` when the bytes are not what the codec expects.
   */
  get value(): T {
    if (this.#value === UNREAD) {
      const data = this.data
      this.#value = decodeWith(this.#delivery.codec, this.#delivery.copies ? data.slice() : data)
    }
    return this.#value as T
  }

  /** Counts the publisher's messages, from 0, without gaps. A gap between two that you got is what `'missed'` tells. */
  get sequence(): number {
    return this.#delivery.sequence(this.#batch, this.#index)
  }

  /** When it was committed: nanoseconds of CLOCK_MONOTONIC, comparable with `process.hrtime.bigint()` on the same machine. */
  get time(): bigint {
    return this.#delivery.time(this.#batch)
  }

  /** The id of the publisher's instance. */
  get publisher(): string {
    return this.#delivery.source.id
  }

  /** The publisher's service name, which tells apart what a pattern such as `sensors.*` brings. */
  get service(): string {
    return this.#delivery.source.name
  }

  /**
   * Whether an earlier holder of the subscriber's durable name may have received it: it was taken out of the ring, and not
   * acknowledged. Never without a durable name.
   */
  get redelivered(): boolean {
    const below = this.#delivery.source.redeliveredBelow
    return below > 0 && this.sequence < below
  }

  /** What `console.log` shows. */
  [Symbol.for('nodejs.util.inspect.custom')](): object {
    const { data, sequence, time, publisher, service } = this
    return { service, sequence, time, publisher, data }
  }
}
