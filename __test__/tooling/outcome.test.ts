/** Reading what tools print: sums, and that silence or a bad end is never a success. */
import test from 'ava'
import { avaFailures, avaOutcome, cargoFailures, cargoOutcome, checkOutcome } from '../../scripts/outcome.mjs'

const CARGO = `
test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.05s
test result: FAILED. 2 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.05s
`

test('cargo: the sum over all test programs', (t) => {
  t.deepEqual(cargoOutcome(CARGO, 101), { passed: 7, failed: 3, skipped: 1 })
})

test('cargo: tests that need root and do not have it are skipped', (t) => {
  const line = (name: string): string => `\n*** NOT TESTED, because only root can become another user: ${name} ***\n`
  const text = `test a ... ok\ntest b ... ${line('b')}ok\n${line('c')}test c ... ok\n${CARGO}`
  t.deepEqual(cargoOutcome(text, 101), { passed: 5, failed: 3, skipped: 3 })
  // If all of them need root, nothing was tested.
  const all = `${line('a')}test result: ok. 1 passed; 0 failed; 0 ignored;`
  t.deepEqual(cargoOutcome(all, 0), { passed: 0, failed: 1, skipped: 1 })
})

test('ava: passed, failed, skipped, and tests that had not ended', (t) => {
  const text = `
  ✔ a (1.2s)
    ℹ ✔ what a test logs is no test
  ✘ [fail]: b Test timeout exceeded
  - [skip] c
  ✔ d

  ✘ Timed out while running tests

  1 tests were pending in x.test.ts

  ◌ e
`
  t.deepEqual(avaOutcome(text, 1), { passed: 2, failed: 2, skipped: 1 })
})

test('a bad end without a failed test is a failure', (t) => {
  t.is(cargoOutcome('error: could not compile', 101).failed, 1)
  t.is(avaOutcome('  ✔ a\n', 1).failed, 1)
  t.is(checkOutcome('', 124).failed, 1)
})

test('a suite that ran nothing is a failure', (t) => {
  t.is(cargoOutcome('test result: ok. 0 passed; 0 failed; 0 ignored;', 0).failed, 1)
  t.is(avaOutcome('', 0).failed, 1)
})

test('cargo: the names of the tests that failed', (t) => {
  const text = `
test bus::a ... ok
test bus::b ... FAILED
test c - should panic ... FAILED
test crates/core/src/lib.rs - (line 3) ... FAILED

failures:
    bus::b
`
  t.deepEqual(cargoFailures(text), ['bus::b', 'c'])
  t.deepEqual(cargoFailures('test a ... ok'), [])
})

test('ava: the files of the tests that failed or had not ended', (t) => {
  const text = `
  ✔ unit › d › d
  ✘ [fail]: unit › bus › a title › with an arrow Test timeout exceeded
  ✘ [fail]: unit › bus › another
  ◌ fault › x › e
  ✘ [fail]: a title alone
`
  const files = ['__test__/unit/bus.test.ts', '__test__/fault/x.test.ts', '__test__/unit/d.test.ts']
  t.deepEqual(
    avaFailures(text, (file) => files.includes(file)),
    files.slice(0, 2),
  )
})
