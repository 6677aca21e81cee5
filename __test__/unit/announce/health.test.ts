/** The rounds of health checks. */
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import test from 'ava'
import { HealthRounds } from '../../../src/announce/health.js'
import { until } from '../../helpers/place.js'

test('nothing stays of a round that is over', async (t) => {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  const signals: WeakRef<AbortSignal>[] = []
  const rounds = new HealthRounds({ interval: 1, check: (signal) => void signals.push(new WeakRef(signal)) }, [])
  t.is(await rounds.first(), 'passing')
  rounds.begin(() => {})
  await until(() => signals.length > 20)
  await until(() => {
    collect()
    return signals.slice(0, 20).every((signal) => signal.deref() === undefined)
  })
  rounds.close()
})

test('the end of the rounds ends a check', async (t) => {
  let given: AbortSignal | undefined
  const rounds = new HealthRounds({ check: (signal) => ((given = signal), new Promise(() => {})) }, [])
  const first = rounds.first()
  rounds.close()
  t.is(await first, 'failing')
  t.true(given?.aborted)
})
