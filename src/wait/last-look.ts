/**
 * The last look at what has arrived, before a deadline is judged. The timers of a late event loop run before that loop asks the
 * kernel what came meanwhile. So a judgement waits for one iteration of the loop: in it, the poller wakes every endpoint whose
 * doorbell rang. It also waits for an endpoint whose time slice is used up, because that one has more to deliver. Every deadline
 * of the library uses this. It costs nothing until a deadline is over.
 */
import { pollNow } from './poller.js'

/** The most iterations that a judgement waits. An endpoint that gets more and more must not delay a deadline without end. */
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

/** Whether a signal fired because its time was up, as that of `AbortSignal.timeout` does, in any realm. The reason may be any value. */
export function isDeadline(reason: unknown): boolean {
  try {
    return (reason as { name?: unknown } | null | undefined)?.name === 'TimeoutError'
  } catch {
    return false
  }
}
