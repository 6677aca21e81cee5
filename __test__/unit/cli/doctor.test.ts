/** What the doctor makes of how its messages got across: bad is only what leaves no way. */
import test from 'ava'
import { type Attempt, findings } from '../../../src/cli/doctor/try-out.js'
import { waking } from '../../../src/cli/doctor/waking.js'

const worked = (rung: Attempt['rung']): Attempt => ({ rung, took: 1 })
const failed = (rung: Attempt['rung']): Attempt => ({ rung, error: 'it did not' })
const statuses = (...attempts: Attempt[]): string[] => findings(attempts).map(({ status }) => status)

test('one way that works is enough', (t) => {
  t.deepEqual(statuses(worked('direct'), worked('handshake'), worked('stream')), ['ok', 'ok', 'ok'])
  t.deepEqual(statuses(failed('direct'), worked('handshake'), failed('stream')), ['warn', 'ok', 'warn'])
  t.deepEqual(statuses(failed('direct'), failed('handshake'), worked('stream')), ['warn', 'warn', 'ok'])
  t.deepEqual(statuses(failed('direct'), failed('handshake'), failed('stream')), ['warn', 'fail', 'fail'])
})

test('a failed check comes with the reason and advice', (t) => {
  for (const { detail, advice } of findings([failed('direct'), failed('handshake'), failed('stream')])) {
    t.is(detail, 'it did not')
    t.not(advice, '')
  }
})

test('if a timer polls instead of the event loop, the doctor says so', (t) => {
  t.is(waking(true).status, 'warn')
  t.regex(waking(true).detail, /timer polls.*8 ms/)
  t.is(waking(false).status, 'ok')
})
