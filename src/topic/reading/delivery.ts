/**
 * What the messages of one drain share: their bytes, their source, and how to read sequence and time from the batch frames among those
 * bytes (docs/protocol.md: 8-byte header, u64 first sequence, u64 time in ns). Messages and batches keep it, so nothing in it changes
 * after the drain.
 */
import type { PayloadCodec } from '../../codec/payload-codec.js'
import { BATCH_BEFORE } from '../../native.js'
import type { Source } from '../sources.js'
import type { ReaderContext } from './reader-context.js'

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
