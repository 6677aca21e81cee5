/** Checks how this runtime notices that something has come: by the event loop, or by a timer that polls. */
import type { Check } from '../../index.js'
import { polls } from '../../wait/poller.js'
import { SLOWEST_MS } from '../../wait/ticker.js'

export function waking(byTimer = polls()): Check {
  const check = 'event-loop'
  if (!byTimer) return { check, status: 'ok', detail: 'doorbells wake it', advice: '' }
  return {
    check,
    status: 'warn',
    detail: `a timer polls: a wake-up takes up to ${SLOWEST_MS} ms, and an idle process does some work`,
    advice: 'none needed; Node without RINGBELL_POLLER=timer is woken at once',
  }
}
