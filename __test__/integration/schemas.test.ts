/**
 * Schemas of topics, queues, connections and calls. A sender's schema checks and the value is sent as given; a receiver gets what
 * its schema returns. What does not match harms only the one who waits for it.
 */
import { once } from 'node:events'
import test from 'ava'
import { bytes, type RingbellError, type StandardSchema } from 'ringbell'
import { codeOf, place } from '../helpers/place.js'
import { broken, digits, later, schemaOf, withDefault } from '../helpers/schemas.js'

const SCHEMA = 'ERR_RINGBELL_SCHEMA'
const json = { codec: 'json' } as const

test('a topic: both sides have the schema, and it converts once', async (t) => {
  const bus = await place(t).bus()
  const publisher = await bus.publisher('ticks', { ...json, schema: digits })
  const subscriber = await bus.subscriber('ticks', { ...json, schema: digits })
  const plain = await bus.subscriber('ticks', json)
  await Promise.all([subscriber.attached(), plain.attached()])
  t.true(publisher.send('41'))
  t.is(await codeOf(() => publisher.send('x')), SCHEMA)
  await t.throwsAsync(publisher.write('x'), { code: SCHEMA })
  await publisher.write('42')
  t.is((await subscriber.receive()).value, 41)
  t.is((await plain.receive()).value, '41')
  const batch = (await subscriber.batches().next()).value
  t.deepEqual([batch?.length, batch?.value(0), [...(batch ?? [])][0]?.value], [1, 42, 42])
  t.is((await plain.receive()).value, '42')
})

test('a topic: a message that does not match fails where its value is read, and the next one comes', async (t) => {
  const bus = await place(t).bus()
  const publisher = await bus.publisher<unknown>('ticks', json)
  const subscriber = await bus.subscriber('ticks', { ...json, schema: digits })
  const defective = await bus.subscriber('ticks', { ...json, schema: broken })
  const slow = await bus.subscriber('ticks', { ...json, schema: later })
  await Promise.all([subscriber.attached(), defective.attached(), slow.attached()])
  for (const value of [{ n: 1 }, '2']) publisher.send(value)
  const seen: unknown[] = []
  for await (const message of subscriber) {
    seen.push(await codeOf(() => message.value), message.data.byteLength)
    if (seen.length === 4) break
  }
  t.deepEqual(seen, [SCHEMA, 7, undefined, 3])
  for (const one of [defective, slow]) {
    const message = await one.receive()
    t.is(await codeOf(() => message.value), SCHEMA)
    t.throws(() => JSON.stringify(message), { code: SCHEMA })
  }
})

test('a topic of bytes may have a schema, too', async (t) => {
  const bus = await place(t).bus()
  const publisher = await bus.publisher('raw')
  const text: StandardSchema<Uint8Array, string> = schemaOf((value) => ({ value: String(value) }))
  const subscriber = await bus.subscriber('raw', { codec: bytes, schema: text })
  await subscriber.attached()
  publisher.send(Buffer.from([1, 2]))
  t.is((await subscriber.receive()).value, '1,2')
  t.is(await codeOf(() => bus.publisher('raw', { schema: 'v1' as never })), 'ERR_RINGBELL_INVALID_OPTION')
})

test('a queue: the worker gets what its schema returns', async (t) => {
  const bus = await place(t).bus()
  const queue = await bus.queue('jobs', { ...json, schema: withDefault })
  const strict = await bus.queue('numbers', { ...json, schema: digits })
  const got: number[] = []
  await bus.worker('jobs', { ...json, schema: withDefault }, ({ n }) => void got.push(n))
  await bus.worker('numbers', { ...json, schema: later }, (n) => void got.push(n))
  queue.push({})
  queue.push({ n: 2 })
  t.is(await codeOf(() => strict.push('x')), SCHEMA)
  t.is(strict.size, 0)
  strict.push('41')
  await Promise.all([queue.drained(), strict.drained()])
  t.deepEqual(
    got.sort((a, b) => a - b),
    [2, 7, 41],
  )
})

test('a queue: a job that does not match ends as a dead letter, and the next one is done', async (t) => {
  const bus = await place(t).bus()
  const queue = await bus.queue<unknown>('jobs', { ...json, attempts: 2 })
  const got: unknown[] = []
  const worker = await bus.worker('jobs', { ...json, schema: digits }, (n) => void got.push(n))
  const dead = once(queue, 'deadLetter')
  queue.push({ odd: 1 })
  queue.push('5')
  const [value, error] = (await dead) as [unknown, Error]
  await queue.drained()
  t.deepEqual(value, { odd: 1 })
  t.like(error, { code: SCHEMA, message: 'A message does not match its schema: a.b: no digits' })
  t.deepEqual(got, [5])
  t.like(worker.stats(), { requests: 3, replies: 1, errors: 2 })
})

test('a connection: messages are checked at both ends', async (t) => {
  const bus = await place(t).bus()
  const server = await bus.serve('chat', { ...json, messages: digits })
  const client = await bus.connect('chat', { ...json, messages: digits })
  const odd = await bus.connect<unknown, unknown>('chat', json)
  const [here, stranger] = await Promise.all([client.connected(), odd.connected()])
  while (server.connections.length < 2) await once(server, 'connected')
  const [one, two] = server.connections
  t.true(here.send('1'))
  await here.write('2')
  t.is(await codeOf(() => here.send('x')), SCHEMA)
  await t.throwsAsync(here.write('x'), { code: SCHEMA })
  for (const value of [{ odd: 1 }, '3', 'x']) stranger.send(value)
  const received = await Promise.all(
    [one, two].map(async (connection) => {
      const seen: unknown[] = []
      for (let count = 0; count < 2; count++) seen.push(await connection?.receive().catch(({ code }) => code as string))
      return seen
    }),
  )
  t.deepEqual(received.map(String).sort(), ['1,2', `${SCHEMA},3`])
  const other = received[0]?.[0] === 1 ? two : one
  await t.throwsAsync(
    async () => {
      for await (const value of other as NonNullable<typeof other>) t.fail(String(value))
    },
    { code: SCHEMA },
  )
  // It is not deaf after that.
  stranger.send('4')
  t.is(await other?.receive(), 4)
  other?.send('9')
  t.is(await stranger.receive(), '9')
})

test('a call: each side converts once, also in a stream', async (t) => {
  const bus = await place(t).bus()
  await bus.serve('add', { ...json, requests: digits, replies: digits }, (n) => String(n + 1))
  const client = await bus.connect('add', { ...json, requests: later, replies: digits })
  t.is(await client.call('41'), 42)
  await t.throwsAsync(client.call('x'), { name: 'RingbellError', code: SCHEMA })
  await bus.serve('count', { ...json, requests: withDefault, replies: digits }, async function* ({ n }) {
    yield String(n)
    yield String(n + 1)
    yield 'x'
  })
  const counting = await bus.connect('count', { ...json, requests: withDefault, replies: digits })
  const seen: unknown[] = []
  await t.throwsAsync(
    async () => {
      for await (const n of counting.stream({})) seen.push(n)
    },
    { name: 'RemoteError', code: 'ERR_RINGBELL_REMOTE' },
  )
  t.deepEqual(seen, [7, 8])
})

test('a server whose schema throws refuses the call with a code', async (t) => {
  const bus = await place(t).bus()
  await bus.serve('broken', { ...json, requests: broken }, () => 1)
  const client = await bus.connect<unknown, unknown>('broken', { ...json, timeout: 20_000 })
  await t.throwsAsync(client.call('x'), { name: 'RemoteError', code: SCHEMA, message: /failed: broken/ })
  const defective = await bus.connect('broken', { ...json, requests: broken })
  await t.throwsAsync(defective.call('x'), { name: 'RingbellError', code: SCHEMA })
  await t.throwsAsync(defective.stream('x').next(), { name: 'RingbellError', code: SCHEMA })
})

test('the id of a schema: who expects another one does not connect', async (t) => {
  const bus = await place(t).bus()
  await bus.serve('api', { ...json, schemaId: 'v2' })
  await bus.queue('jobs', { ...json, schemaId: 'v2' })
  const publisher = await bus.publisher('ticks', { schemaId: 'v2' })
  t.is(publisher.service.schemaId, 'v2')
  t.is(publisher.service.record['payloadSchema'], 'v2')
  const client = await bus.connect('api', { ...json, schemaId: 'v2' })
  t.is((await client.connected()).service?.schemaId, 'v2')
  const wrong = [
    () => bus.connect('api', { ...json, schemaId: 'v1' }),
    () => bus.worker('jobs', { ...json, schemaId: 'v1' }, () => {}),
  ]
  for (const open of wrong) {
    // One after the other, so that each is heard.
    const [error] = (await once(await open(), 'failed')) as [RingbellError]
    t.is(error.code, 'ERR_RINGBELL_REFUSED')
    t.regex(error.message, /schema id v2, but this side expects v1/)
  }
})
