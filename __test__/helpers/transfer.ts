/** Passes memory to a thread, as far as it lets itself be passed. */
import type { MessagePort } from 'node:worker_threads'

/** A marked buffer is refused by a `DataCloneError`, and copied by Node before 21. */
export function transferTo(port: MessagePort): (bytes: Uint8Array) => void {
  return (bytes) => {
    try {
      port.postMessage(bytes, [bytes.buffer as ArrayBuffer])
    } catch (error) {
      if ((error as Error).name !== 'DataCloneError') throw error
    }
  }
}
