/**
 * Where copies of messages land. A slab is filled from front to back by as many drains as fit, so that a slow stream of
 * small messages does not cost a slab each; the next one is as large as the last drain suggests. No part of a slab is written
 * twice. A slab cannot be transferred to a thread, because its messages share it. Large slabs come from the binding's pool, which
 * finalizers refill; small ones are plain memory.
 */
import { binding, type NativeSlabPool } from './native.js'
import { untransferable } from './untransferable.js'

const SMALLEST_SLAB = 16 * 1024
export const LARGEST_SLAB = 256 * 1024
/** Drains of the last size that a new slab should hold. */
const DRAINS = 4

/** A pool that nobody took from for so long gives its memory back. */
const QUIET_MS = 1000

let pool: NativeSlabPool | undefined
let taken = 0
let trimmer: NodeJS.Timeout | undefined

export class Slabs {
  bytes: Uint8Array = untransferable(new Uint8Array(SMALLEST_SLAB))
  /** Where the free part begins, a multiple of 8. */
  fill = 0
  #least = SMALLEST_SLAB / 8
  #wanted = SMALLEST_SLAB

  /** Call before a drain: replaces a slab that is nearly full. */
  prepare(): void {
    if (this.bytes.byteLength - this.fill < this.#least) this.renew(0)
  }

  /** A fresh slab of at least so many bytes. */
  renew(needed: number): void {
    const size = Math.max(needed, this.#wanted)
    this.bytes = untransferable(size <= LARGEST_SLAB / 4 ? new Uint8Array(size) : fromPool(size))
    this.fill = 0
    this.#least = Math.min(SMALLEST_SLAB, this.bytes.byteLength / 8)
  }

  /** A drain filled this many bytes. */
  used(bytes: number): void {
    this.fill += bytes
    this.#wanted = Math.min(LARGEST_SLAB, Math.max(SMALLEST_SLAB, bytes * DRAINS))
  }
}

function fromPool(size: number): Uint8Array {
  pool ??= new (binding().NativeSlabPool)()
  taken++
  trimmer ??= trimLater(pool)
  return pool.take(size)
}

function trimLater(from: NativeSlabPool): NodeJS.Timeout {
  const before = taken
  return setTimeout(() => {
    trimmer = taken === before ? undefined : trimLater(from)
    if (trimmer === undefined) from.trim()
  }, QUIET_MS).unref()
}
