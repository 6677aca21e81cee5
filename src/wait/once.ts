/** One wait for one item of a message source. `receive` uses it when there is no message. */
import { closedError, fromNative } from '../errors.js'
import type { Gate, MessageSource, Reader } from './reader.js'
import type { TimeSlice } from './time-slice.js'
import { waitFor } from './waiting.js'

export function once<V>(
  messages: MessageSource<V>,
  gate: Gate,
  timeSlice: TimeSlice,
  signal: AbortSignal | undefined,
): Promise<V> {
  return waitFor<V>(
    (waiting) => {
      const reader: Reader = {
        messages,
        ready() {
          timeSlice.begin()
          // An error of `take` (in decoding, for example) must reject this wait. It must not reach the loop that
          // delivers.
          try {
            waiting.resolve(messages.take())
          } catch (error) {
            waiting.reject(fromNative(error))
          }
        },
        failed: (error) => waiting.reject(error),
        closed: () => waiting.reject(closedError(gate.what)),
      }
      if (timeSlice.spent) gate.waitFresh(reader)
      else gate.wait(reader)
      return () => gate.callOff(reader)
    },
    { signal, explain: gate.explain },
  )
}
