/** Closing with a grace: what is under way may be done yet, and nothing new is taken on. */
import test from 'ava'
import { fakeBus, turns } from '../../helpers/fake-channel.js'

const LONG = 60_000

test('a client ends its calls, and makes no new ones', async (t) => {
  const { bus } = fakeBus(t)
  let answer = (_reply: number): void => {}
  await bus.serve('slow', { codec: 'json' }, () => new Promise<number>((resolve) => (answer = resolve)))
  const client = await bus.connect('slow', { codec: 'json' })
  const call = client.call(1)
  await turns(10)
  const closed = client.close({ grace: LONG })
  await t.throwsAsync(client.call(2), { code: 'ERR_RINGBELL_CLOSED' })
  t.false(client.closed)
  answer(7)
  t.is(await call, 7)
  await closed
  t.true(client.closed)
})

test('a queue waits for what it has, and takes nothing', async (t) => {
  const { bus } = fakeBus(t)
  const queue = await bus.queue('jobs')
  const done: number[] = []
  for (const n of [1, 2, 3]) queue.push(new Uint8Array(n))
  const closed = queue.close({ grace: LONG })
  t.throws(() => queue.push(new Uint8Array(4)), { code: 'ERR_RINGBELL_CLOSED' })
  await bus.worker('jobs', (data) => void done.push(data.byteLength))
  await closed
  t.deepEqual(done, [1, 2, 3])
  t.true(queue.closed)
})

test('a queue that closes can be drained, and accepts nothing new', async (t) => {
  const { bus } = fakeBus(t)
  const queue = await bus.queue('jobs', { limit: 1 })
  queue.push(new Uint8Array(1))
  const ready = t.throwsAsync(queue.ready(), { code: 'ERR_RINGBELL_CLOSED' })
  const before = queue.drained()
  const closed = queue.close({ grace: LONG })
  await ready
  await t.throwsAsync(queue.ready(), { code: 'ERR_RINGBELL_CLOSED' })
  const drained = queue.drained()
  await bus.worker('jobs', () => {})
  await Promise.all([before, drained, closed])
  await t.throwsAsync(queue.drained(), { code: 'ERR_RINGBELL_CLOSED' })
})

test('a client that closes gives no call a connection', async (t) => {
  const { bus } = fakeBus(t)
  const client = await bus.connect('later')
  const call = client.call(new Uint8Array(1))
  const connected = t.throwsAsync(client.connected(), { code: 'ERR_RINGBELL_CLOSED' })
  const closed = client.close({ grace: LONG })
  await connected
  t.false(client.closed)
  await bus.serve('later', (request) => request)
  t.is((await call).byteLength, 1)
  await closed
})

test('an endpoint that fails to leave is closed nevertheless', async (t) => {
  const { bus, fake } = fakeBus(t)
  const server = await bus.serve('calls', () => new Promise<Uint8Array>(() => {}))
  const client = await bus.connect('calls')
  const call = client.call(new Uint8Array(1))
  await turns(10)
  const [there] = fake.made
  if (there === undefined) throw new Error('nobody is there')
  there.withdraw = () => {
    throw new RangeError('not now')
  }
  await t.throwsAsync(server.close({ grace: LONG }), { message: 'not now' })
  t.true(server.closed)
  await t.throwsAsync(call, { code: 'ERR_RINGBELL_OUTCOME_UNKNOWN' })
})

test('close rejects the remaining calls after the grace period', async (t) => {
  const { bus } = fakeBus(t)
  const client = await bus.connect('nobody')
  const call = client.call(new Uint8Array(1))
  const queue = await bus.queue('idle')
  queue.push(new Uint8Array(1))
  const drained = queue.drained()
  await Promise.all([client.close({ grace: 1 }), queue.close({ grace: 1 })])
  await t.throwsAsync(call, { code: 'ERR_RINGBELL_CLOSED' })
  await t.throwsAsync(drained, { code: 'ERR_RINGBELL_CLOSED' })
})

test('bus.close ends the grace period', async (t) => {
  const { bus } = fakeBus(t)
  await bus.serve('slow', () => new Promise<Uint8Array>(() => {}))
  const client = await bus.connect('slow')
  const call = client.call(new Uint8Array(1))
  await turns(10)
  const queue = await bus.queue('jobs')
  queue.push(new Uint8Array(1))
  const closed = Promise.all([client.close({ grace: LONG }), queue.close({ grace: LONG })])
  await turns()
  await bus.close()
  await closed
  await t.throwsAsync(call, { code: 'ERR_RINGBELL_CLOSED' })
})

test('a worker or a server that is closed by its own handler answers first', async (t) => {
  const { bus } = fakeBus(t)
  const queue = await bus.queue<number>('jobs', { codec: 'json', attempts: 1 })
  const closed: Promise<void>[] = []
  const worker = await bus.worker<number>('jobs', { codec: 'json' }, async () => {
    closed.push(worker.close({ grace: LONG }))
    await turns(3)
  })
  queue.push(1)
  await queue.drained()
  t.like(queue.stats(), { acknowledged: 1, failed: 0 })
  const server = await bus.serve('once', (request) => {
    closed.push(server.close({ grace: LONG }))
    return request
  })
  const client = await bus.connect('once')
  t.is((await client.call(new Uint8Array(7))).byteLength, 7)
  await Promise.all(closed)
  t.true(worker.closed && server.closed)
})
