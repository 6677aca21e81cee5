/** The connect test of health checks: which errors count against an instance. */
import test from 'ava'
import type { Bus } from '../../../src/bus/bus.js'
import { RingbellError } from '../../../src/errors.js'
import { ConnectTest } from '../../../src/supervise/connect-test.js'
import type { Instance } from '../../../src/supervise/instance.js'
import { codeOf } from '../../helpers/place.js'

const INSTANCE = { hasAnnounced: ({ id }: { id: string }) => id === 'own' } as unknown as Instance

function reaching(counters: () => unknown): Promise<string | undefined> {
  const bus = { counters: async () => counters() } as unknown as Bus
  return codeOf(() => new ConnectTest(bus, 'price').reach(INSTANCE, 100))
}

const answer = (id: string, code: 'ERR_RINGBELL_TIMEOUT' | 'ERR_RINGBELL_RESOURCE') => (): unknown => [
  { service: { id }, error: new RingbellError(code, 'It is so.') },
]

test('an instance that cannot be reached fails, and others do not for it', async (t) => {
  t.is(await reaching(answer('own', 'ERR_RINGBELL_TIMEOUT')), 'ERR_RINGBELL_TIMEOUT')
  t.is(await reaching(answer('other', 'ERR_RINGBELL_TIMEOUT')), undefined)
})

test('an instance does not fail because the manager has no descriptors left', async (t) => {
  t.is(await reaching(answer('own', 'ERR_RINGBELL_RESOURCE')), undefined)
  const throws = (): never => {
    throw new RingbellError('ERR_RINGBELL_RESOURCE', 'There are no descriptors.')
  }
  t.is(await reaching(throws), undefined)
})
