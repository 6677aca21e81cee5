/** Reading what tools print: sums, and that silence or a bad end is never a success. */
import test from 'ava'
import { cargoOutcome, checkOutcome, tapOutcome } from '../../scripts/outcome.mjs'

const CARGO = `
test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.05s
test result: FAILED. 2 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.05s
`

test('cargo: the sum over all test programs', (t) => {
  t.deepEqual(cargoOutcome(CARGO, 101), { passed: 7, failed: 3, skipped: 1 })
})

test('cargo: what needs root and has none was skipped', (t) => {
  const line = (name: string): string => `\n*** NOT TESTED, because only root can become another user: ${name} ***\n`
  const text = `test a ... ok\ntest b ... ${line('b')}ok\n${line('c')}test c ... ok\n${CARGO}`
  t.deepEqual(cargoOutcome(text, 101), { passed: 5, failed: 3, skipped: 3 })
  // Where all need it, nothing was tested.
  const all = `${line('a')}test result: ok. 1 passed; 0 failed; 0 ignored;`
  t.deepEqual(cargoOutcome(all, 0), { passed: 0, failed: 1, skipped: 1 })
})

test('TAP: ok, not ok, skipped', (t) => {
  const text = 'TAP version 13\nok 1 - a\nnot ok 2 - b\n  ---\nok 3 - c # SKIP\n1..3\n'
  t.deepEqual(tapOutcome(text, 1), { passed: 1, failed: 1, skipped: 1 })
})

test('a bad end without a failed test is a failure', (t) => {
  t.is(cargoOutcome('error: could not compile', 101).failed, 1)
  t.is(tapOutcome('ok 1 - a\n', 1).failed, 1)
  t.is(checkOutcome('', 124).failed, 1)
})

test('a suite that ran nothing is a failure', (t) => {
  t.is(cargoOutcome('test result: ok. 0 passed; 0 failed; 0 ignored;', 0).failed, 1)
  t.is(tapOutcome('1..0\n', 0).failed, 1)
})
