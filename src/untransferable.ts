/**
 * Memory that several messages share (a slab, a scratch buffer, the one empty array). If one of them passed it to a thread, all the
 * others would lose it. Marked memory cannot be passed on: `postMessage` and `structuredClone` throw a `DataCloneError`, or copy it
 * (Node before 21). Runtimes without such a mark leave the memory unmarked. Memory of the binding must not be marked: Node refuses
 * to transfer it anyway, and Node 24 aborts at exit when it cannot detach memory that is marked.
 */
import * as threads from 'node:worker_threads'

type Mark = (memory: ArrayBufferLike) => void

const mark = usable(threads.markAsUntransferable)

/** Some runtimes lack this function, although the types have it. In others (Bun, Deno) it throws "not implemented". */
function usable(candidate: Mark | undefined): Mark | undefined {
  try {
    candidate?.(new ArrayBuffer(1))
    return candidate
  } catch {
    return undefined
  }
}

/** Marks the memory of `bytes` and returns them. It costs about a microsecond, so call it once for each piece of memory. */
export function untransferable<B extends Uint8Array>(bytes: B): B {
  mark?.(bytes.buffer)
  return bytes
}
