/**
 * Memory that several messages share (a slab, a scratch buffer, the one empty array): one who passed it to a thread would take it
 * from all the others. Marked, it cannot be passed on: `postMessage` and `structuredClone` throw a `DataCloneError` at the one
 * who tries, or copy it (Node before 21). Runtimes that know no such mark go without.
 */
import * as threads from 'node:worker_threads'

type Mark = (memory: ArrayBufferLike) => void

const mark = usable(threads.markAsUntransferable)

/** Some runtimes have no such function, whatever the types say; in others (Bun, Deno) it throws "not implemented". */
function usable(candidate: Mark | undefined): Mark | undefined {
  try {
    candidate?.(new ArrayBuffer(1))
    return candidate
  } catch {
    return undefined
  }
}

/** The same bytes. Once for each piece of memory: it costs about a microsecond. */
export function untransferable<B extends Uint8Array>(bytes: B): B {
  mark?.(bytes.buffer)
  return bytes
}
