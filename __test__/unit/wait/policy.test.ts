import test from 'ava'
import { DEFAULT_BUDGET_US, WaitPolicy } from '../../../src/wait/policy.js'

const BUDGET_MS = DEFAULT_BUDGET_US / 1000
const QUICK = BUDGET_MS / 4
const SLOW = BUDGET_MS * 10

test('sleep never looks, spin never sleeps', (t) => {
  const sleep = new WaitPolicy('sleep')
  sleep.arrived(0, true)
  t.is(sleep.patience, 0)
  const spin = new WaitPolicy('spin')
  spin.inVain()
  spin.arrived(SLOW, true)
  t.is(spin.patience, Infinity)
  t.true(spin.lively)
})

test('adaptive looks only at an endpoint that has been lively', (t) => {
  const policy = new WaitPolicy()
  t.is(policy.patience, 0, 'quiet at first')
  policy.arrived(QUICK, true)
  t.is(policy.patience, BUDGET_MS)
  policy.arrived(SLOW, true)
  t.is(policy.patience, 0, 'quiet again')
})

test('looking in vain costs twice as many quick arrivals each time', (t) => {
  const policy = new WaitPolicy('adaptive')
  const needed: number[] = []
  for (let round = 0; round < 4; round++) {
    policy.arrived(QUICK, true)
    let arrivals = 1
    for (; !policy.lively; arrivals++) policy.arrived(QUICK, true)
    needed.push(arrivals)
    policy.inVain()
  }
  t.deepEqual(needed, [1, 2, 4, 8])
})

test('a look that finds something wipes the doubt out', (t) => {
  const policy = new WaitPolicy()
  policy.inVain()
  policy.inVain()
  for (let i = 0; i < 4; i++) policy.arrived(QUICK, true)
  t.true(policy.lively)
  policy.arrived(QUICK, false)
  policy.inVain()
  policy.arrived(QUICK, true)
  policy.arrived(QUICK, true)
  t.true(policy.lively)
})

test('doubt is bounded', (t) => {
  const policy = new WaitPolicy()
  for (let i = 0; i < 100; i++) policy.inVain()
  for (let i = 0; i < 1024; i++) policy.arrived(QUICK, true)
  t.true(policy.lively)
})

test('budget and slice are the options', (t) => {
  const policy = new WaitPolicy({ mode: 'adaptive', budget: 50, slice: 7 })
  policy.arrived(0, true)
  t.is(policy.patience, 0.05)
  t.is(policy.slice, 7)
  const none = new WaitPolicy({ mode: 'adaptive', budget: 0 })
  none.arrived(0, true)
  t.false(none.lively)
  for (const bad of [
    'x',
    5,
    null,
    { mode: 'adaptive', budget: 'long' },
    { mode: 'spin', slice: 0 },
    { mode: 'spin', x: 1 },
    {},
  ]) {
    t.throws(() => new WaitPolicy(bad as never), { code: 'ERR_RINGBELL_INVALID_OPTION', message: /wait/ })
  }
})
