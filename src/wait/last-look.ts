/**
 * Before a deadline is judged, what has already arrived is looked at. Timers of a loop that was late run before that loop asks
 * the kernel what came meanwhile, so a judgement waits for one turn: in it, the poller wakes every endpoint that was rung. An
 * endpoint whose time slice was used up has more to deliver, and the judgement waits for that, too. Every deadline of the
 * library comes here; it costs nothing until one is over.
 */
import { pollNow } from './poller.js'

/** Turns that endpoints have to deliver what was there. One that gets more and more must not put a deadline off for ever. */
const MOST_TURNS = 64

/** Endpoints that go on in a fresh macrotask. */
let behind = 0

/** An endpoint goes on in a fresh macrotask. `caughtUp` must follow. */
export function fellBehind(): void {
  behind++
}

export function caughtUp(): void {
  behind--
}

/** Calls `judge` when what has arrived is delivered. The returned function calls it off. */
export function lastLook(judge: () => void): () => void {
  let turns = 0
  const turn = (): void => {
    if (behind > 0 && ++turns < MOST_TURNS) immediate = setImmediate(turn)
    else judge()
  }
  let immediate = setImmediate(turn)
  pollNow()
  return () => clearImmediate(immediate)
}

/** Whether a signal fired because its time was up, as that of `AbortSignal.timeout` does. The reason may be any value. */
export function isDeadline(reason: unknown): boolean {
  try {
    return reason instanceof DOMException && reason.name === 'TimeoutError'
  } catch {
    return false
  }
}
