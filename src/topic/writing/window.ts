/**
 * The publisher's memory that JavaScript may write to: a window of its own ring, or, with `drop-oldest`, a private buffer. The binding says
 * where a window begins and how long it is. A frame is an 8-byte header, the payload, and padding to 8. There is one Uint8Array per
 * memory; the binding detaches it when the publisher closes.
 */
import { tooLarge } from '../../errors.js'
import type { NativePublisher, NativePublisherHot } from '../../native.js'

export const FRAME_HEADER = 8
const ALIGNED = 7

/** Bytes that a message of this length takes. */
export function frameBytes(length: number): number {
  return (length + FRAME_HEADER + ALIGNED) & ~ALIGNED
}

export class Window {
  /** The memory, valid after `open`. */
  bytes: Uint8Array = new Uint8Array(0)
  /** Where the first frame's header is. */
  offset = 0
  readonly lengths: Uint32Array
  readonly #native: NativePublisher
  readonly #hot: NativePublisherHot
  readonly #scratch: Float64Array
  readonly #memories: (Uint8Array | undefined)[] = [undefined, undefined]
  /** Whether something else must be sent first. */
  readonly #later: () => boolean

  constructor(native: NativePublisher, hot: NativePublisherHot, later: () => boolean) {
    this.#later = later
    this.#native = native
    this.#hot = hot
    this.#scratch = native.scratch
    this.lengths = native.lengths
  }

  /** Opens a window. Returns its length in bytes, 0 when there is no room. */
  open(minBytes: number): number {
    if (this.#later()) return 0
    const length = this.#hot.openWindow(minBytes)
    if (length === 0) return 0
    this.offset = this.#scratch[0] as number
    const kind = this.#scratch[1] === 1 ? 1 : 0
    this.bytes = this.#memories[kind] ??= new Uint8Array(this.#native.memory(kind))
    return length
  }

  /** The same for a payload of so many bytes, at most `limit`. */
  openFor(payload: number, limit: number): number {
    if (payload >= 0 && payload <= limit) return this.open(frameBytes(payload))
    throw tooLarge(payload, limit)
  }

  /** The first `count` lengths of the table become frames. */
  commit(count: number): void {
    this.#hot.commit(count)
  }

  abandon(): void {
    this.#hot.abandon()
  }
}
