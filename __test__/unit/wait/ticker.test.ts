/** Polling in runtimes whose event loop we cannot use, with timers that the test fires itself. */
import test from 'ava'
import { Poller } from '../../../src/wait/poller.js'
import { SLOWEST_MS, Ticker } from '../../../src/wait/ticker.js'

/** Runs with timers that fire when `tick` is called. `pending` has the delay of each. */
function withTimers(use: (pending: number[], tick: (times: number) => void) => void): void {
  const { setTimeout, clearTimeout } = globalThis
  const timers: { delay: number; fire: () => void }[] = []
  const pending: number[] = []
  const note = (): void => void pending.splice(0, Infinity, ...timers.map(({ delay }) => delay))
  const remove = (timer: unknown): void => {
    const at = timers.indexOf(timer as (typeof timers)[number])
    if (at >= 0) timers.splice(at, 1)
    note()
  }
  globalThis.setTimeout = ((fire: () => void, delay: number) => {
    const timer = { delay, fire, ref: () => timer, unref: () => timer }
    timers.push(timer)
    note()
    return timer
  }) as never
  globalThis.clearTimeout = remove
  try {
    use(pending, (times) => {
      for (let n = 0; n < times; n++) {
        const [timer] = timers
        remove(timer)
        timer?.fire()
      }
    })
  } finally {
    Object.assign(globalThis, { setTimeout, clearTimeout })
  }
}

test('it polls less often with time, and at once often again when it is hurried', (t) => {
  withTimers((pending, tick) => {
    let looks = 0
    const ticker = new Ticker(() => looks++)
    t.deepEqual(pending, [1])
    tick(1000)
    t.is(looks, 1000)
    t.deepEqual(pending, [SLOWEST_MS])
    ticker.hurry()
    t.deepEqual(pending, [1], 'the slow look is not waited for')
    tick(10)
    t.deepEqual(pending, [1])
  })
})

test('hurried from within a poll, it still has one timer', (t) => {
  withTimers((pending, tick) => {
    const ticker: Ticker = new Ticker(() => ticker.hurry())
    tick(1000)
    t.deepEqual(pending, [1])
  })
})

test('every wait that begins hurries the poller, also while others are waiting', (t) => {
  withTimers((pending, tick) => {
    const poller = new Poller(false)
    for (let waits = 0; waits < 3; waits++) {
      poller.hold()
      t.deepEqual(pending, [1])
      tick(1000)
      t.deepEqual(pending, [SLOWEST_MS])
    }
    poller.hurry()
    t.deepEqual(pending, [1])
  })
})
