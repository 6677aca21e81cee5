import test from 'ava'
import { type WaitOption, WaitPolicy } from '../../../src/wait/policy.js'
import type { Poller } from '../../../src/wait/poller.js'
import { type Awaited, Waiter } from '../../../src/wait/waiter.js'

/** Something to wait for, and everything that is done to it. */
function scene(option: WaitOption) {
  const calls: string[] = []
  const state = {
    there: false,
    armed: true,
    held: 0,
    hurried: 0,
    error: undefined as unknown,
    failed: undefined as unknown,
    fails: false,
  }
  const awaited: Awaited = {
    poll(iterations) {
      calls.push(iterations > 0 ? 'spin' : 'poll')
      if (state.error !== undefined) throw state.error
      return state.there
    },
    ready() {
      calls.push('ready')
      if (state.fails) throw new Error('not ready')
    },
    arm() {
      calls.push('arm')
      return state.armed
    },
    failed: (error) => void (state.failed = error),
  }
  const poller = { hold: () => state.held++, drop: () => state.held--, hurry: () => state.hurried++ }
  const waiter = new Waiter(awaited, new WaitPolicy(option), poller as unknown as Poller)
  return { calls, state, waiter }
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

test('sleep arms, keeps the process alive, and delivers when woken', (t) => {
  const { calls, state, waiter } = scene('sleep')
  waiter.start()
  t.deepEqual(calls, ['arm'])
  t.is(state.held, 1)
  waiter.wake()
  t.deepEqual(calls, ['arm', 'poll', 'arm'], 'a spurious wake-up arms again')
  state.there = true
  waiter.wake()
  t.deepEqual(calls.slice(3), ['poll', 'ready'])
  t.is(state.held, 0)
  t.false(waiter.waiting)
})

test('a message that arrives while arming is not slept over', (t) => {
  const { calls, state, waiter } = scene('sleep')
  state.armed = false
  state.there = true
  waiter.start()
  t.deepEqual(calls, ['arm', 'poll', 'ready'])
})

test('a doorbell that always rings does not block the event loop', async (t) => {
  const { calls, state, waiter } = scene('sleep')
  state.armed = false
  waiter.start()
  t.true(calls.length < 20)
  t.true(waiter.waiting)
  await turn()
  state.there = true
  await turn()
  t.is(calls.at(-1), 'ready')
})

test('spin looks in every turn of the event loop and never arms', async (t) => {
  const { calls, state, waiter } = scene('spin')
  waiter.start()
  for (let i = 0; i < 5; i++) await turn()
  t.false(calls.includes('arm'))
  t.is(state.held, 0)
  state.there = true
  await turn()
  await turn()
  t.is(calls.at(-1), 'ready')
})

test('adaptive looks for a while, then sleeps', async (t) => {
  const { calls, state, waiter } = scene({ mode: 'adaptive', budget: 100_000 })
  waiter.start()
  state.there = true
  waiter.wake()
  state.there = false
  calls.length = 0
  waiter.start()
  t.deepEqual(calls, [], 'lively: no system call, not even arming')
  await turn()
  await turn()
  t.true(calls.includes('spin'))
  while (!calls.includes('arm')) await turn()
  t.is(state.held, 1)
  waiter.stop()
  t.is(state.held, 0)
})

test('an error ends the wait and is told once', (t) => {
  const { state, waiter } = scene('sleep')
  waiter.start()
  state.error = new Error('gone')
  waiter.wake()
  t.is(state.failed, state.error)
  t.false(waiter.waiting)
  t.is(state.held, 0)
})

test('unreferenced, it sleeps at once and does not turn the event loop', async (t) => {
  for (const option of ['spin', { mode: 'spin', slice: 1 }] as const) {
    const { calls, state, waiter } = scene(option)
    waiter.referenced = false
    waiter.start()
    t.deepEqual(calls, ['arm'])
    state.there = true
    waiter.wake()
    t.is(calls.at(-1), 'ready')
  }
  const { calls, state, waiter } = scene('spin')
  waiter.start()
  await turn()
  waiter.referenced = false
  await turn()
  t.is(calls.at(-1), 'arm', 'who looks goes to sleep')
  const { length } = calls
  await turn()
  t.is(calls.length, length)
  t.is(state.held, 0)
  waiter.stop()
})

test('unreferenced, it is not lost when the doorbell cannot be armed', async (t) => {
  const { calls, state, waiter } = scene('sleep')
  waiter.referenced = false
  state.armed = false
  const turning = (): number => process.getActiveResourcesInfo().filter((one) => one === 'Immediate').length
  const before = turning()
  waiter.start()
  t.is(turning(), before + 1, 'something that turns the loop')
  state.armed = true
  await turn()
  await turn()
  t.is(calls.at(-1), 'arm')
  waiter.stop()
})

test('unreferenced, it does not keep the process alive', (t) => {
  const { state, waiter } = scene('sleep')
  waiter.referenced = false
  waiter.start()
  t.is(state.held, 0)
  waiter.referenced = true
  t.is(state.held, 1)
  waiter.stop()
  t.is(state.held, 0)
})

test('each sleep that begins hurries the poller, also while it is held, or while no wait keeps the process alive', (t) => {
  const { state, waiter } = scene('sleep')
  waiter.start()
  t.is(state.hurried, 1)
  waiter.wake()
  t.deepEqual([state.hurried, state.held], [2, 1])
  waiter.stop()
  waiter.referenced = false
  waiter.start()
  t.deepEqual([state.hurried, state.held], [3, 0])
})

test('an exception in ready does not keep the process alive', (t) => {
  const { state, waiter } = scene('sleep')
  waiter.start()
  state.there = true
  state.fails = true
  t.throws(() => waiter.wake(), { message: 'not ready' })
  t.is(state.held, 0)
  t.false(waiter.waiting)
})
