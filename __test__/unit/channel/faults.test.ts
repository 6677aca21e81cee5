/** A peer breaks the rules, and any call of the binding can find that: its connection ends, and nothing else does. */
import { once } from 'node:events'
import test, { type ExecutionContext } from 'ava'
import { KIND } from '../../../src/channel/wire.js'
import { fakeBus, turns } from '../../helpers/fake-channel.js'

const CORRUPT = { code: 'ERR_RINGBELL_CORRUPT_PEER' }
const byte = (n: number): Uint8Array => Uint8Array.of(n)

/** A server with two clients, of which the first will turn out to be hostile; handlers wait for `release`. */
async function scene(t: ExecutionContext) {
  const { bus, fake } = fakeBus(t)
  let release = (): void => {}
  const released = new Promise<void>((resolve) => (release = resolve))
  const server = await bus.serve('calls', { maxMessage: 2 ** 20 }, async (request) => {
    await released
    return request
  })
  const evil = await bus.connect('calls', { reconnect: { tries: 1, delay: 60_000 } })
  await evil.connected()
  const good = await bus.connect('calls')
  await good.connected()
  const [there, hostile] = fake.made
  if (there === undefined || hostile === undefined) throw new Error('nobody is there')
  const ended = Promise.all([once(server, 'failed'), once(server, 'disconnected')])
  const check = async (): Promise<void> => {
    release()
    const [[error], [connection, reason]] = await ended
    t.like(error, CORRUPT)
    t.is(reason, 'failed')
    t.true((connection as { closed: boolean }).closed)
    t.deepEqual(await good.call(byte(7)), byte(7))
    t.like(server.stats(), { connections: 1, inHand: 0 })
  }
  return { bus, server, evil, good, there, hostile, release, check }
}

test('a reply finds the broken peer', async (t) => {
  const { evil, there, check } = await scene(t)
  const lost = evil.call(byte(1))
  const other = evil.call(byte(2))
  await turns(3)
  there.corrupt(0)
  await check()
  for (const one of [lost, other]) await t.throwsAsync(one, { code: 'ERR_RINGBELL_OUTCOME_UNKNOWN' })
})

test('a refusal, a credit grant and a large request find the broken peer', async (t) => {
  for (const provoke of [
    ({ hostile }) => hostile.inject(0, KIND.request, 50, 0, new Uint8Array(2 ** 20 + 1)),
    ({ hostile }) => hostile.inject(0, KIND.credit, 0, 1000, byte(0)),
    ({ evil }) => void evil.call(new Uint8Array(200_000)).catch(() => {}),
  ] as ((one: Awaited<ReturnType<typeof scene>>) => void)[]) {
    const one = await scene(t)
    const [connection] = one.server.connections
    const side = one.hostile.sides.get(0)
    if (side !== undefined) side.in.held = true
    while (connection?.send(new Uint8Array(1000)) === true);
    const room = connection?.ready()
    await turns(2)
    provoke(one)
    one.there.corrupt(0)
    await one.check()
    await t.throwsAsync(room as Promise<void>, CORRUPT)
  }
})

test('send, write and ready find the broken peer', async (t) => {
  const { server, there, check } = await scene(t)
  const [connection] = server.connections
  const writing = connection?.write(new Uint8Array(500_000))
  there.corrupt(0)
  t.throws(() => connection?.send(byte(1)), CORRUPT)
  await t.throwsAsync(writing as Promise<void>, CORRUPT)
  await check()
})

test('a connection that the core fails to end has ended nevertheless', async (t) => {
  for (const how of ['fault', 'close'] as const) {
    const { server, there } = await scene(t)
    const [connection] = server.connections
    const writing = connection?.write(new Uint8Array(500_000))
    there.disconnect = () => {
      throw new RangeError('not now')
    }
    if (how === 'close') await t.throwsAsync(async () => connection?.close(), { message: 'not now' })
    else {
      there.corrupt(0)
      t.throws(() => connection?.send(byte(1)), CORRUPT)
    }
    await t.throwsAsync(writing as Promise<void>, how === 'close' ? { code: 'ERR_RINGBELL_CLOSED' } : CORRUPT)
    t.is(server.connections.length, 1)
  }
})

test('a large request finds the broken peer, and goes to another server', async (t) => {
  const { bus, fake } = fakeBus(t)
  for (const n of [1, 2]) await bus.serve('calls', () => byte(n))
  const client = await bus.connect('calls', { route: 'round-robin', reconnect: { tries: 1, delay: 60_000 } })
  while (client.connections.length < 2) await turns()
  fake.made[2]?.corrupt(0)
  const calls = [1, 2].map(() => client.call(new Uint8Array(200_000)))
  t.deepEqual(await Promise.all(calls), [byte(2), byte(2)])
  t.is(client.stats().inFlight, 0)
})

test('the next value of a stream finds the broken peer', async (t) => {
  const { bus, fake } = fakeBus(t)
  let ended = false
  const server = await bus.serve('calls', async function* () {
    try {
      yield byte(1)
      for (;;) {
        fake.made[0]?.corrupt(0)
        yield new Uint8Array(200_000)
      }
    } finally {
      ended = true
    }
  })
  const client = await bus.connect('calls', { reconnect: { tries: 1, delay: 60_000 } })
  const failed = once(server, 'failed')
  await t.throwsAsync(
    (async () => {
      for await (const one of client.stream(byte(0))) t.deepEqual(one, byte(1))
    })(),
    { code: 'ERR_RINGBELL_OUTCOME_UNKNOWN' },
  )
  t.like((await failed)[0], CORRUPT)
  while (!ended) await turns()
  t.is(server.stats().inHand, 0)
})

test('ids that cannot be given back', async (t) => {
  for (const bytes of [1, 50_000]) {
    const { hostile, check } = await scene(t)
    hostile.inject(0, KIND.request, 2 ** 53, 0, new Uint8Array(bytes))
    await check()
  }
})

test('calls ended by a timeout or a signal find the broken peer', async (t) => {
  const { bus, fake } = fakeBus(t)
  await bus.serve('calls', () => new Promise<never>(() => {}))
  for (const how of ['timeout', 'signal'] as const) {
    const client = await bus.connect('calls', { reconnect: { tries: 1, delay: 60_000 } })
    await client.connected()
    const failed = once(client, 'failed')
    const control = new AbortController()
    const call = client.call(byte(1), how === 'timeout' ? { timeout: 20 } : { signal: control.signal })
    const other = client.call(byte(2))
    fake.made.at(-1)?.corrupt(0)
    control.abort()
    await t.throwsAsync(call, { code: how === 'timeout' ? 'ERR_RINGBELL_TIMEOUT' : 'ABORT_ERR' } as object)
    await t.throwsAsync(other, { code: 'ERR_RINGBELL_OUTCOME_UNKNOWN' })
    t.like((await failed)[0], CORRUPT)
  }
})

test('a queue gives what a hostile worker had to another one', async (t) => {
  const { bus, fake } = fakeBus(t)
  const queue = await bus.queue<number>('jobs', { codec: 'json' })
  await bus.worker<number>('jobs', { codec: 'json', concurrency: 2 }, () => new Promise<never>(() => {}))
  queue.push(1)
  await turns(3)
  fake.made[0]?.corrupt(0)
  const failed = once(queue, 'failed')
  t.true(queue.push(2))
  t.like((await failed)[0], CORRUPT)
  const done: number[] = []
  await bus.worker<number>('jobs', { codec: 'json' }, (n) => void done.push(n))
  await queue.drained()
  t.deepEqual(new Set(done), new Set([1, 2]))
})

test('a worker goes on with its other queues', async (t) => {
  const { bus, fake } = fakeBus(t)
  const queues = [
    await bus.queue<number>('jobs', { codec: 'json' }),
    await bus.queue<number>('jobs', { codec: 'json' }),
  ]
  let release = (): void => {}
  const released = new Promise<void>((resolve) => (release = resolve))
  const worker = await bus.worker<number>(
    'jobs',
    { codec: 'json', reconnect: { tries: 1, delay: 60_000 } },
    async () => {
      await released
    },
  )
  while (worker.queues.length < 2) await turns()
  queues[0]?.push(1)
  await turns(3)
  const failed = once(worker, 'failed')
  fake.made[2]?.corrupt(0)
  release()
  t.like((await failed)[0], CORRUPT)
  queues[1]?.push(2)
  await queues[1]?.drained()
  t.is(worker.queues.length, 1)
})

test('a client that asks more and more, and never reads its answers', async (t) => {
  const { bus, fake } = fakeBus(t)
  let handled = 0
  const server = await bus.serve('calls', { maxRequests: 5, maxMessage: 1000 }, () => {
    handled++
    return new Uint8Array(1000)
  })
  for (const bytes of [1, 1001]) {
    await (await bus.connect('calls', { reconnect: { tries: 1, delay: 60_000 } })).connected()
    const hostile = fake.made.at(-1)
    const side = hostile?.sides.get(0)
    if (side === undefined) throw new Error('nobody is there')
    side.in.held = true
    const failed = once(server, 'failed')
    for (let id = 1; id < 18_000; id++) hostile?.inject(0, KIND.request, id, 0, new Uint8Array(bytes))
    t.like((await failed)[0], CORRUPT)
    // A ring of replies, and as many that wait for room.
    t.true(handled > 0 && handled < 65 + 5)
    t.is(server.connections.length, 0)
  }
})

test('a queue that sends a worker more jobs than it has credit for', async (t) => {
  const { bus, fake } = fakeBus(t)
  await bus.queue('jobs')
  let begun = 0
  const worker = await bus.worker('jobs', { concurrency: 2, reconnect: { tries: 1, delay: 60_000 } }, () => {
    begun++
    return new Promise(() => {})
  })
  while (worker.queues.length === 0) await turns()
  const failed = once(worker, 'failed')
  // What a queue gives up gives no credit back while its handler runs.
  for (const id of [1, 2, 3]) {
    fake.made[0]?.inject(0, KIND.request, id, 0, byte(id))
    fake.made[0]?.inject(0, KIND.cancel, id, 0, new Uint8Array())
  }
  t.like((await failed)[0], CORRUPT)
  t.is(begun, 2)
  t.deepEqual(worker.queues, [])
})
