/**
 * Slabs: the memory that messages are copied into. Drains fill a slab from front to back, so a slow stream of small
 * messages does not need a slab per message. The size of the next slab depends on the last drain. No part of a slab is
 * written twice. A slab cannot be transferred to a thread, because its messages share it.
 *
 * Slabs are memory of the runtime's own allocator, not of the binding. The collector knows their size and frees them early,
 * while they are young, and the allocator gives warm pages again. External memory, pooled and refilled by finalizers,
 * carried half as much at 64 KiB and 1 MiB: it came back only after full collections.
 */
import { Buffer } from 'node:buffer'
import { untransferable } from './untransferable.js'

const SMALLEST_SLAB = 16 * 1024
export const LARGEST_SLAB = 256 * 1024
/** A new slab should hold this many drains of the last size. */
const DRAINS = 4

export class Slabs {
  bytes: Uint8Array = fresh(SMALLEST_SLAB)
  /** Where the free part begins, a multiple of 8. */
  fill = 0
  #least = SMALLEST_SLAB / 8
  #wanted = SMALLEST_SLAB

  /** Call before a drain: replaces a slab that is nearly full. */
  prepare(): void {
    if (this.bytes.byteLength - this.fill < this.#least) this.renew(0)
  }

  /** Replaces the slab by a fresh one of at least `needed` bytes. */
  renew(needed: number): void {
    this.bytes = fresh(Math.max(needed, this.#wanted))
    this.fill = 0
    this.#least = Math.min(SMALLEST_SLAB, this.bytes.byteLength / 8)
  }

  /** Call after a drain that filled this many bytes. */
  used(bytes: number): void {
    this.fill += bytes
    this.#wanted = Math.min(LARGEST_SLAB, Math.max(SMALLEST_SLAB, bytes * DRAINS))
  }
}

/** Without zeros: a drain overwrites what it hands out, and zeros would cost as much as the message. */
function fresh(size: number): Uint8Array {
  const { buffer, byteOffset } = Buffer.allocUnsafeSlow(size)
  return untransferable(new Uint8Array(buffer, byteOffset, size))
}
