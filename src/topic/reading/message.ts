/**
 * One message, which belongs to its receiver. It is cheap to make: five words. The view of its bytes, its value and its
 * time are made at the first access. It keeps the whole slab alive that it was copied into. To keep a few of many small
 * messages for long, keep `data.slice()` instead.
 */
import { Buffer } from 'node:buffer'
import { type MessageHeaders, NO_HEADERS } from '../../headers.js'
import { attempt, shown, type ShownOptions } from '../../shown.js'
import type { Delivery } from './delivery.js'

const UNREAD = Symbol('unread')

/** A message as JSON can carry it. */
export interface MessageJson<T> {
  /** The publisher's service name. */
  readonly service: string
  /** The number of the message among those of its publisher. */
  readonly sequence: number
  /** Nanoseconds of CLOCK_MONOTONIC, with all digits. */
  readonly time: string
  /** The id of the publisher's instance. */
  readonly publisher: string
  /** The value. Bytes are a `Buffer`, which `JSON.stringify` writes as `{"type":"Buffer","data":[…]}`. */
  readonly value: T
  /** Its headers, if it has some. */
  readonly headers?: MessageHeaders
}

/**
 * One message, its place in the order, and where it came from. Two messages are equal for `assert.deepStrictEqual` and its like if
 * they are the same message, of one publisher and with one sequence; to compare what they say, compare `value`. `structuredClone` and
 * `postMessage` do not carry it: pass on `value`, or `data.slice()`.
 */
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
   * The value, decoded once by the subscriber's codec, as its schema returns it; with `bytes` and without a schema the same as `data`.
   *
   * @throws {RingbellError} `ERR_RINGBELL_CODEC` when the bytes are not what the codec expects, `ERR_RINGBELL_SCHEMA` when the value is
   * not what the schema expects.
   */
  get value(): T {
    if (this.#value === UNREAD) {
      const data = this.data
      this.#value = this.#delivery.payloads.decodeMessage(this.#delivery.copies ? data.slice() : data)
    }
    return this.#value as T
  }

  /** The headers that its publisher has sent with it, decoded at the first access; an empty object if there are none. */
  get headers(): MessageHeaders {
    return this.#delivery.headers(this.#offset, this.#length)
  }

  /**
   * The number of this message among those of its publisher, from 0, without gaps. If there is a gap between two
   * messages that you got, `'missed'` reports it.
   */
  get sequence(): number {
    return this.#delivery.sequence(this.#batch, this.#index)
  }

  /**
   * When it was committed: nanoseconds of CLOCK_MONOTONIC, comparable with `process.hrtime.bigint()` on the same machine.
   * Some are slightly early if a publisher sends very many messages one by one: see its `exactTime`.
   */
  get time(): bigint {
    return this.#delivery.time(this.#batch)
  }

  /** The id of the publisher's instance. */
  get publisher(): string {
    return this.#delivery.source.id
  }

  /** The publisher's service name. With a pattern such as `sensors.*` it says which topic the message is of. */
  get service(): string {
    return this.#delivery.source.name
  }

  /**
   * Whether an earlier subscriber with the same durable name may have received it: it was taken out of the ring and not
   * acknowledged. Always `false` without a durable name.
   */
  get redelivered(): boolean {
    const below = this.#delivery.source.redeliveredBelow
    return below > 0 && this.sequence < below
  }

  /** Libraries that compare objects look at this: the state is private, and any two messages would be equal. */
  get [Symbol.toStringTag](): string {
    return `Message ${this.sequence} of ${this.service} ${this.publisher}`
  }

  /** What `JSON.stringify` writes. Throws as `value` does. */
  toJSON(): MessageJson<T> {
    const { sequence, time, publisher, service, value } = this
    const carried = (value as unknown) === this.data ? Buffer.from(this.data) : value
    return { service, sequence, time: String(time), publisher, value: carried as T, ...this.#headersIfAny() }
  }

  /** What `console.log` shows. */
  [Symbol.for('nodejs.util.inspect.custom')](depth: number | null, options: ShownOptions): string {
    const { sequence, time, publisher, service } = this
    return shown(
      'Message',
      { service, sequence, time, publisher, ...this.#headersIfAny(), ...this.#content() },
      depth,
      options,
    )
  }

  #headersIfAny(): { headers?: MessageHeaders } {
    const { headers } = this
    return headers === NO_HEADERS ? {} : { headers }
  }

  /** The value; the bytes if there is no codec, or they are not what codec and schema expect. */
  #content(): object {
    if (this.#delivery.payloads.plain) return { data: this.data }
    const read = attempt(() => ({ value: this.value }))
    return read ?? { data: this.data }
  }
}
