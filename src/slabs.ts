/**
 * Slabs: the memory that messages are copied into. Drains fill a slab from front to back, so a slow stream of small
 * messages does not need a slab per message. The size of the next slab depends on the last drain. No part of a slab is
 * written twice. A slab cannot be transferred to a thread, because its messages share it. Large slabs come from the
 * binding's pool, which finalizers refill; small ones are plain memory.
 */
import { binding, type NativeSlabPool } from './native.js'
import { untransferable } from './untransferable.js'

const SMALLEST_SLAB = 16 * 1024
export const LARGEST_SLAB = 256 * 1024
/** A new slab should hold this many drains of the last size. */
const DRAINS = 4

/** If no slab was taken for this long, the pool gives its memory back. */
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

  /** Replaces the slab by a fresh one of at least `needed` bytes. */
  renew(needed: number): void {
    const size = Math.max(needed, this.#wanted)
    this.bytes = size <= LARGEST_SLAB / 4 ? untransferable(new Uint8Array(size)) : fromPool(size)
    this.fill = 0
    this.#least = Math.min(SMALLEST_SLAB, this.bytes.byteLength / 8)
  }

  /** Call after a drain that filled this many bytes. */
  used(bytes: number): void {
    this.fill += bytes
    this.#wanted = Math.min(LARGEST_SLAB, Math.max(SMALLEST_SLAB, bytes * DRAINS))
  }
}

/** Node itself refuses to transfer memory of a binding. Marking it as well ends Node 24 and 26 with an abort at exit. */
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
