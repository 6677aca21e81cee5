/** Waiting for one thing out of an inflow, once: the wait behind `receive`. */
import { onAbort } from './abort.js'
import { closedError, fromNative } from '../errors.js'
import type { Inflow, Receiving } from './reader.js'
import type { Turn } from './time-slice.js'

export function once<V>(
  inflow: Inflow<V>,
  reception: Receiving,
  turn: Turn,
  signal: AbortSignal | undefined,
): Promise<V> {
  return new Promise((resolve, reject) => {
    const waiting = {
      inflow,
      ready(): void {
        turn.begin()
        forget()
        // What cannot be taken (decoded, for one) is for the one who waits, never for the loop that delivers.
        try {
          resolve(inflow.take())
        } catch (error) {
          reject(fromNative(error))
        }
      },
      failed(error: unknown): void {
        forget()
        reject(error)
      },
      closed(): void {
        forget()
        reject(closedError(reception.what))
      },
    }
    const forget = onAbort(signal, (error) => {
      reception.callOff(waiting)
      reject(error)
    })
    if (turn.spent) reception.waitFresh(waiting)
    else reception.wait(waiting)
  })
}
