/** Calls that wait for a server: a wrong value is refused at once, and a wait without an end is said once. */
import { once } from 'node:events'
import test from 'ava'
import type { Codec, RingbellError } from 'ringbell'
import { fakeBus, turns } from '../../helpers/fake-channel.js'

const CODEC = { code: 'ERR_RINGBELL_CODEC' }

test('a request that cannot be encoded is refused while nobody serves', async (t) => {
  const { bus } = fakeBus(t)
  const json = await bus.connect<unknown, unknown>('nobody', { codec: 'json' })
  const bytes = await bus.connect('nobody')
  await t.throwsAsync(json.call(1n), CODEC)
  await t.throwsAsync(json.stream(1n).next(), CODEC)
  await t.throwsAsync(bytes.call('a' as never), CODEC)
  t.like(json.stats(), { inFlight: 0, waiting: 0 })
})

test('a request that has waited is encoded once, and its bytes are kept', async (t) => {
  const { bus } = fakeBus(t)
  const scratch = new Uint8Array(1)
  let times = 0
  const codec: Codec<number> = {
    id: 'scratch',
    encode: (n) => {
      times++
      scratch[0] = n
      return scratch
    },
    decode: ([n = 0]) => n,
  }
  const client = await bus.connect<number, number>('later', { codec })
  const calls = [1, 2, 3].map((n) => client.call(n))
  const first = client.stream(4).next()
  t.is(times, 4)
  const asked: number[] = []
  await bus.serve<number, number>('later', { codec }, (n) => void asked.push(n))
  await Promise.all([...calls, first])
  t.deepEqual(asked, [1, 2, 3, 4])
  t.is(times, 4)
})

test.serial('a call without an end that waits for a server says so once', async (t) => {
  const { bus } = fakeBus(t)
  const real = globalThis.setTimeout
  const timers: [callback: () => void, timer: NodeJS.Timeout][] = []
  globalThis.setTimeout = ((callback: () => void, ms: number) => {
    const timer = real(callback, ms)
    if (ms === 10_000) timers.push([callback, timer])
    return timer
  }) as typeof setTimeout
  t.teardown(() => (globalThis.setTimeout = real))
  const client = await bus.connect<unknown, unknown>('nobody', { codec: 'json' })
  const limited = [client.call(1, { timeout: 60_000 }), client.call(1, { signal: new AbortController().signal })]
  t.is(timers.length, 0)
  const calls = [client.call(1), client.call(2), client.stream(3).next()]
  t.is(timers.length, 1)
  const [[callback, timer] = [() => {}, undefined]] = timers
  t.false(timer?.hasRef())
  const warned = once(process, 'warning')
  callback()
  const [warning] = (await warned) as [RingbellError]
  t.like(warning, { name: 'RingbellWarning', code: 'RINGBELL_NO_SERVER' })
  t.regex(warning.message, /^A call of 'nobody' without a timeout has waited 10 s: no server is connected/)
  calls.push(client.call(4))
  await turns()
  t.is(timers.length, 1)
  await client.close()
  t.true((await Promise.allSettled([...limited, ...calls])).every(({ status }) => status === 'rejected'))
})
