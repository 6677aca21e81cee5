/**
 * What the messages of one drain share: their bytes, their source, and how to read sequence and time from the batch frames among those
 * bytes (docs/protocol.md: 8-byte header, u64 first sequence, u64 time in ns). Messages and batches keep it, so nothing in it changes
 * after the drain.
 */
import type { PayloadCodec } from '../../codec/payload-codec.js'
import { decodeHeaders, type MessageHeaders, NO_HEADERS } from '../../headers.js'
import { BATCH_BEFORE } from '../../native.js'
import type { Source } from '../sources.js'
import type { ReaderContext } from './reader-context.js'

/** How many bytes of headers a message has stands in so many bytes before it. */
const HEADERS_BEFORE = 2
const SEQUENCE_AT = 8
const TIME_AT = 16
const HIGH_WORD = 2 ** 32

export class Delivery {
  /** The slab, or the ring itself for a lease. */
  readonly bytes: Uint8Array
  readonly buffer: ArrayBufferLike
  readonly base: number
  readonly source: Source
  readonly payloads: PayloadCodec
  /**
   * Whether values are decoded from a copy: if a peer can write to the bytes, or a value may point into memory that is
   * used again.
   */
  readonly copies: boolean
  readonly #firstSequence: number
  readonly #firstTime: number
  #view: DataView | undefined = undefined
  /** The headers that were read, by the offsets of their messages. */
  #headers: Map<number, MessageHeaders> | undefined = undefined

  constructor(
    bytes: Uint8Array,
    source: Source,
    payloads: PayloadCodec,
    firstSequence: number,
    firstTime: number,
    copies: boolean,
  ) {
    this.bytes = bytes
    this.buffer = bytes.buffer
    this.base = bytes.byteOffset
    this.source = source
    this.payloads = payloads
    this.copies = copies
    this.#firstSequence = firstSequence
    this.#firstTime = firstTime
  }

  data(offset: number, length: number): Uint8Array {
    return new Uint8Array(this.buffer, this.base + offset, length)
  }

  /** The headers of a message. They follow it. Before a message that came in pieces there is nothing, and nothing follows its headers. */
  headers(offset: number, length: number): MessageHeaders {
    const end = offset + length
    const rest = this.bytes.byteLength - end
    const size = offset === 0 ? rest : this.#frames().getUint16(offset - HEADERS_BEFORE, true)
    // The length of a lease may be changed by its publisher at any time.
    if (size === 0 || size > rest) return NO_HEADERS
    const read = this.#headers?.get(offset)
    if (read !== undefined) return read
    const headers = decodeHeaders(new Uint8Array(this.buffer, this.base + end, size))
    this.#headers = (this.#headers ?? new Map<number, MessageHeaders>()).set(offset, headers)
    return headers
  }

  /** The sequence number of the message with this index in the batch whose frame lies at `batch`. */
  sequence(batch: number, index: number): number {
    if (batch === BATCH_BEFORE) return this.#firstSequence + index
    const view = this.#frames()
    return view.getUint32(batch + SEQUENCE_AT, true) + view.getUint32(batch + SEQUENCE_AT + 4, true) * HIGH_WORD + index
  }

  /** When that batch was committed, in nanoseconds of CLOCK_MONOTONIC. */
  time(batch: number): bigint {
    if (batch === BATCH_BEFORE) return BigInt(this.#firstTime)
    return this.#frames().getBigUint64(batch + TIME_AT, true)
  }

  #frames(): DataView {
    return (this.#view ??= new DataView(this.buffer, this.base, this.bytes.byteLength))
  }
}

/** After `DRAIN_LARGE`: a message that came in pieces. With any lifetime it has memory of its own, which its reader may keep. */
export function largeDelivery({ native, sources, payloads }: ReaderContext): Delivery {
  const { scratch } = native
  const source = sources.get(scratch[0] as number)
  return new Delivery(native.takeLarge(), source, payloads, scratch[2] as number, scratch[3] as number, false)
}
