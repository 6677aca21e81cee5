/** The rounds of a manager: what counts against an instance, and what does not. */
import test, { type ExecutionContext } from 'ava'
import { RingbellError } from '../../../src/errors.js'
import { Checks, type ChecksHost } from '../../../src/supervise/checks.js'
import type { Instance } from '../../../src/supervise/instance.js'
import { until } from '../../helpers/place.js'

const INSTANCE = { member: {}, process: { pid: 1, status: { exited: false } } } as unknown as Instance
const TIMEOUT = 100

/** Rounds over one instance, and what they found. */
function rounds(t: ExecutionContext, beat: () => Promise<number>, health?: ChecksHost['health']): RingbellError[] {
  const stalled: RingbellError[] = []
  const host = {
    calls: { call: async () => ({ beatAge: await beat() }) },
    health,
    instances: () => [INSTANCE],
    snapshot: () => ({}),
    stalled: (_: Instance, reason: RingbellError) => stalled.push(reason),
  } as unknown as ChecksHost
  const checks = new Checks(host, 10, TIMEOUT)
  t.teardown(() => checks.close())
  return stalled
}

const passed = (milliseconds: number): Promise<void> => new Promise((done) => setTimeout(done, milliseconds))

async function unanswered(outcome: 'ERR_RINGBELL_NOT_SENT' | 'ERR_RINGBELL_OUTCOME_UNKNOWN'): Promise<number> {
  await passed(TIMEOUT)
  throw new RingbellError('ERR_RINGBELL_TIMEOUT', 'No reply.', { cause: new RingbellError(outcome, 'It is so.') })
}

/** Nothing of this process runs meanwhile. */
function standStill(milliseconds: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, milliseconds)
}

test.serial('one that was asked and does not answer is stalled', async (t) => {
  const stalled = rounds(t, () => unanswered('ERR_RINGBELL_OUTCOME_UNKNOWN'))
  await until(() => stalled.length > 0)
  t.like(stalled[0], { code: 'ERR_RINGBELL_TIMEOUT', cause: { cause: { code: 'ERR_RINGBELL_OUTCOME_UNKNOWN' } } })
})

test.serial('a question that was never sent counts for nothing', async (t) => {
  let asked = 0
  const stalled = rounds(t, () => {
    asked++
    return unanswered('ERR_RINGBELL_NOT_SENT')
  })
  await until(() => asked === 3)
  t.deepEqual(stalled, [])
})

for (const how of ['no answer', 'work that does not beat', 'a bad check'] as const) {
  test.serial(`${how} counts for nothing after a time in which this process stood still`, async (t) => {
    let asked = 0
    const late = async (): Promise<void> => {
      // Each time. The instance, too, had no time.
      standStill(2 * TIMEOUT)
      asked++
    }
    const beat = async (): Promise<number> => {
      if (how === 'a bad check') return 0
      await late()
      return how === 'no answer' ? unanswered('ERR_RINGBELL_OUTCOME_UNKNOWN') : 2 * TIMEOUT
    }
    const check = async (): Promise<boolean> => {
      await late()
      return false
    }
    const stalled = rounds(t, beat, how === 'a bad check' ? check : undefined)
    await until(() => asked === 2)
    t.deepEqual(stalled, [])
  })
}

test.serial('a check that throws is one that fails, and two in a row count', async (t) => {
  const wrong = new RingbellError('ERR_RINGBELL_SYSTEM', 'It is not well.')
  let calls = 0
  const stalled = rounds(
    t,
    async () => 0,
    () => {
      if (++calls !== 2) throw wrong
    },
  )
  await until(() => stalled.length > 0)
  t.is(stalled[0], wrong)
  t.true(calls >= 4, 'the second one was well')
})

test.serial('a check that never ends is late, and its signal says so', async (t) => {
  const signals: AbortSignal[] = []
  const stalled = rounds(
    t,
    async () => 0,
    (_, signal) => {
      signals.push(signal)
      return new Promise(() => {})
    },
  )
  await until(() => stalled.length > 0)
  t.is(stalled[0]?.code, 'ERR_RINGBELL_TIMEOUT')
  t.true(signals.slice(0, 2).every(({ aborted }) => aborted))
})
