/** Which server a call goes to, and what becomes of connections: routes, reconnecting, codecs and schemas. */
import { once } from 'node:events'
import test from 'ava'
import type { Service } from 'ringbell'
import { Routing } from '../../../src/channel/routing.js'
import { type Schema, standardSchema } from '../../../src/codec/schema.js'
import { Backoff } from '../../../src/wait/backoff.js'
import { fakeBus, turns } from '../../helpers/fake-channel.js'

interface Choice {
  name: string
  leaving: boolean
  gone: unknown
  calls: { size: number }
}

const choice = (name: string, size = 0): Choice => ({ name, leaving: false, gone: undefined, calls: { size } })

test('routes', (t) => {
  const [a, b, c] = [choice('a', 2), choice('b', 1), choice('c', 1)]
  const all = [a, b, c]
  const picks = (routing: Routing<Choice>, count: number): string =>
    Array.from({ length: count }, () => routing.pick(all)?.name ?? '-').join('')
  t.is(picks(new Routing('first'), 3), 'aaa')
  t.is(picks(new Routing('round-robin'), 6), 'abcabc')
  t.is(picks(new Routing('least-busy'), 4), 'bbcb')
  a.leaving = true
  b.gone = new Error('gone')
  for (const route of ['first', 'round-robin', 'least-busy'] as const) t.is(picks(new Routing(route), 3), 'ccc')
  c.leaving = true
  t.is(picks(new Routing('round-robin'), 1), '-')
  t.is(new Routing('first').pick([]), undefined)
})

test('pauses double up to a limit, spread, and end', (t) => {
  const backoff = new Backoff({ tries: 4, delay: 100, maxDelay: 300 })
  t.deepEqual(
    [0.5, 0.5, 0, 1].map((random) => backoff.failed(random)),
    [100, 200, 225, 375],
  )
  t.is(backoff.failed(), undefined)
  backoff.succeeded()
  t.is(backoff.failed(0.5), 100)
  // Who asks for a longer pause than the usual limit gets it.
  const slow = new Backoff({ delay: 60_000 })
  t.deepEqual([slow.failed(0.5), slow.failed(0.5)], [60_000, 60_000])
  t.is(new Backoff({ maxDelay: 500 }).failed(0.5), 500)
  const forEver = new Backoff({ tries: 0, delay: 1 })
  for (let n = 0; n < 2000; n++) t.true((forEver.failed() ?? Infinity) <= 37_500)
})

test('first keeps to one server, the others spread; a new server is found', async (t) => {
  const { bus, fake } = fakeBus(t)
  const served = [0, 0, 0]
  const servers = []
  for (const n of [0, 1, 2]) servers.push(await bus.serve('group', () => void (served[n] = (served[n] ?? 0) + 1)))
  const first = await bus.connect('group')
  for (let n = 0; n < 9; n++) await first.call(Uint8Array.of(n))
  t.deepEqual(served, [9, 0, 0])
  t.is(first.connections.length, 1)
  const round = await bus.connect('group', { route: 'round-robin' })
  while (round.connections.length < 3) await turns()
  for (let n = 0; n < 9; n++) await round.call(Uint8Array.of(n))
  t.deepEqual(served, [12, 3, 3])
  fake.made[0]?.die()
  await once(first, 'disconnected')
  await first.call(Uint8Array.of(1))
  t.is(served[1], 4)
  const least = await bus.connect('group', { route: 'least-busy' })
  while (least.connections.length < 2) await turns()
  await Promise.all(Array.from({ length: 10 }, () => least.call(Uint8Array.of(1))))
  t.deepEqual(served, [12, 9, 8])
})

test('it retries to connect, gives up, and resumes after an update', async (t) => {
  const { bus, fake } = fakeBus(t)
  await bus.serve('shy', (request) => request)
  fake.refusing = true
  const client = await bus.connect('shy', { reconnect: { tries: 3, delay: 1 } })
  const failures: string[] = []
  client.on('failed', (error) => failures.push(error.code))
  const [service] = (await once(client, 'gaveUp')) as [Service]
  t.deepEqual(failures, Array(4).fill('ERR_RINGBELL_REFUSED'))
  t.is(fake.connects, 4)
  const call = client.call(Uint8Array.of(1))
  fake.refusing = false
  await bus.serve('shy', (request) => request)
  t.is((await call).byteLength, 1)
  t.is(service.name, 'shy')
})

test('a server with another codec or schema, or a topic, is not connected', async (t) => {
  const { bus, fake } = fakeBus(t)
  await bus.serve('typed', { codec: 'json', schemaId: 'v2' })
  await bus.queue('typed', { codec: 'json' })
  for (const options of [{}, { codec: 'structured' }, { codec: 'json', schemaId: 'v1' }] as {
    codec: 'json'
    schemaId?: string
  }[]) {
    const client = await bus.connect('typed', options)
    const [error] = await once(client, 'failed')
    t.like(error, { code: 'ERR_RINGBELL_REFUSED' })
  }
  t.is(fake.connects, 0)
  const client = await bus.connect('typed', { codec: 'json', schemaId: 'v2' })
  t.is((await client.connected()).service?.schemaId, 'v2')
  t.is(fake.connects, 1)
})

/** Numbers alone; text that is one becomes one. */
function numbers(later: boolean): Schema<number> {
  const validate = (value: unknown) =>
    Number.isFinite(Number(value))
      ? { value: Number(value) }
      : { issues: [{ message: 'no number', path: ['a', { key: 'b' }] }] }
  return {
    '~standard': {
      version: 1,
      vendor: 'test',
      validate: (value) => (later ? Promise.resolve(validate(value)) : validate(value)),
    },
  }
}

for (const later of [false, true]) {
  test(`schemas of both sides check requests and replies${later ? ', when asynchronous' : ''}`, async (t) => {
    const { bus } = fakeBus(t)
    const schema = numbers(later)
    await bus.serve('checked', { codec: 'json', requests: schema, replies: schema }, async (n) =>
      n === 1 ? 'x' : n + 1,
    )
    const plain = await bus.connect<unknown, unknown>('checked', { codec: 'json' })
    t.is(await plain.call('41'), 42)
    const refused = await t.throwsAsync(plain.call('x'), {
      name: 'RemoteError',
      code: 'ERR_RINGBELL_SCHEMA',
      message: /a\.b: no number/,
    })
    t.deepEqual(refused?.cause, [{ message: 'no number', path: ['a', { key: 'b' }] }])
    const odd = await t.throwsAsync(plain.call(1), { code: 'ERR_RINGBELL_REMOTE' })
    t.like(odd, { remoteCode: 'ERR_RINGBELL_SCHEMA' })
    const strict = await bus.connect('checked', { codec: 'json', requests: schema, replies: schema })
    t.is(await strict.call(5), 6)
    const error = await t.throwsAsync(strict.call('x'), { name: 'RingbellError', code: 'ERR_RINGBELL_SCHEMA' })
    t.like(error, { cause: [{ message: 'no number' }] })
    t.is(strict.stats().inFlight, 0)
  })
}

test('what an asynchronous schema checks is sent as it was given', async (t) => {
  const { bus } = fakeBus(t)
  const waiting: (() => void)[] = []
  const validate = (value: unknown): Promise<{ value: unknown }> =>
    new Promise((done) => waiting.push(() => done({ value })))
  const schema = { '~standard': { version: 1 as const, vendor: 'test', validate } }
  const given: { n: unknown }[] = []
  await bus.serve<{ n: unknown }, unknown>('slow', { codec: 'json', replies: schema }, ({ n }, { signal }) => {
    signal.throwIfAborted()
    const reply = { n }
    given.push(reply)
    return reply
  })
  await bus.serve<{ n: unknown }, unknown>('streams', { codec: 'json' }, async function* ({ n }) {
    yield n
  })
  const client = await bus.connect('slow', { codec: 'json', requests: schema })
  const streams = await bus.connect('streams', { codec: 'json', requests: schema })
  await Promise.all([client.connected(), streams.connected()])
  const request: { n: unknown } = { n: 1 }
  const call = client.call(request)
  const next = streams.stream(request).next()
  request.n = 2
  for (let at = 0; at < 2; at++) waiting[at]?.()
  while (waiting.length < 3) await turns()
  for (const reply of given) reply.n = 3
  waiting[2]?.()
  t.deepEqual(await call, { n: 1 })
  t.deepEqual(await next, { value: 1, done: false })

  // What cannot be encoded is refused at once, and what the schema says later harms nobody.
  const refused = client.call({ n: 1n })
  await t.throwsAsync(refused, { code: 'ERR_RINGBELL_CODEC' })
  waiting[3]?.()
  const [answer] = [client.call({ n: 4 })]
  waiting[4]?.()
  while (waiting.length < 6) await turns()
  waiting[5]?.()
  t.deepEqual(await answer, { n: 4 })
  t.is(client.stats().inFlight, 0)
})

test('a schema that is no Standard Schema is refused', (t) => {
  t.is(standardSchema(numbers(false)), undefined)
  for (const value of [undefined, null, {}, { '~standard': { version: 2, validate: () => ({}) } }, { '~standard': {} }])
    t.is(typeof standardSchema(value), 'string')
})

test('stats of both sides, and of the server by serverStats', async (t) => {
  const { bus } = fakeBus(t)
  const server = await bus.serve('counted', { codec: 'json' }, async (n) => {
    if (n === 2) throw new Error('no')
  })
  const client = await bus.connect('counted', { codec: 'json' })
  await client.call(1)
  await client.call(2).catch(() => {})
  const seen = { connections: 1, accepted: 1, requests: 2, replies: 1, errors: 1, cancelled: 0, inHand: 0 }
  t.like(server.stats(), seen)
  t.like(await client.serverStats(), seen)
  t.like(client.stats(), { connections: 1, calls: 3, inFlight: 0, waiting: 0, repeated: 0 })
})

test('a server that names no codec, as in Rust, speaks bytes', async (t) => {
  const { bus, fake } = fakeBus(t)
  fake.serve('rust', 'server', '{}')
  const client = await bus.connect('rust')
  t.is((await client.connected()).peer.pid, 1)
  const other = await bus.connect('rust', { codec: 'json', reconnect: { tries: 1 } })
  const [error] = (await once(other, 'failed')) as [Error]
  t.regex(error.message, /codec \(none\).*expects json/)
})
