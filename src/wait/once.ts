/** Waiting for one thing out of a source, once: the wait behind `receive`. */
import { closedError, fromNative } from '../errors.js'
import type { Gate, Inflow, Reader } from './reader.js'
import type { Turn } from './time-slice.js'
import { waitFor } from './waiting.js'

export function once<V>(inflow: Inflow<V>, gate: Gate, turn: Turn, signal: AbortSignal | undefined): Promise<V> {
  return waitFor<V>(
    (waiting) => {
      const reader: Reader = {
        inflow,
        ready() {
          turn.begin()
          // What cannot be taken (decoded, for one) is for the one who waits, never for the loop that delivers.
          try {
            waiting.resolve(inflow.take())
          } catch (error) {
            waiting.reject(fromNative(error))
          }
        },
        failed: (error) => waiting.reject(error),
        closed: () => waiting.reject(closedError(gate.what)),
      }
      if (turn.spent) gate.waitFresh(reader)
      else gate.wait(reader)
      return () => gate.callOff(reader)
    },
    { signal },
  )
}
