/** A message, a batch and a connection are compared, printed and written as JSON by what they carry. */
import assert from 'node:assert/strict'
import { inspect } from 'node:util'
import test, { type ExecutionContext } from 'ava'
import type { Subscriber } from 'ringbell'
import { place } from '../../../helpers/place.js'

async function scene<T>(t: ExecutionContext, values: T[]) {
  const bus = await place(t).bus()
  const publisher = await bus.publisher<T>('shown', { codec: 'json' })
  const subscriber = await bus.subscriber<T>('shown', { codec: 'json' })
  const other = await bus.subscriber('shown')
  await Promise.all([subscriber.attached(), other.attached()])
  for (const value of values) t.true(publisher.send(value))
  return { bus, publisher, subscriber, other }
}

test('messages with different values differ, for whatever compares', async (t) => {
  const { subscriber, other } = await scene(t, [{ a: 1 }, { a: 2 }])
  const [one, two] = [await subscriber.receive(), await subscriber.receive()]
  t.throws(() => assert.deepStrictEqual(one, two))
  t.throws(() => assert.deepStrictEqual([one], [two]))
  t.notDeepEqual(one, two)
  // What two subscribers got of one publisher is the same message.
  assert.deepStrictEqual({ ...one.toJSON(), value: 0 }, { ...(await other.receive()).toJSON(), value: 0 })
  assert.deepStrictEqual(one, one)
})

test('a message as JSON', async (t) => {
  const { subscriber, other, publisher } = await scene(t, [{ a: 1 }])
  const message = await subscriber.receive()
  const { time } = message
  const common = { service: 'shown', sequence: 0, time: String(time), publisher: publisher.service.id }
  t.deepEqual(JSON.parse(JSON.stringify(message)), { ...common, value: { a: 1 } })
  const bytes = { type: 'Buffer', data: [...Buffer.from('{"a":1}')] }
  t.deepEqual(JSON.parse(JSON.stringify(await other.receive())), { ...common, value: bytes })
})

test('a message is shown by its value, or its bytes', async (t) => {
  const { subscriber, other } = await scene(t, [{ a: 1 }])
  const message = await subscriber.receive()
  t.regex(inspect(message), /^Message \{\n {2}service: 'shown',\n {2}sequence: 0,[^]*value: \{ a: 1 \}\n\}$/)
  t.regex(inspect(await other.receive()), /data: Uint8Array\(7\)/)
  t.is(inspect([[[message]]], { depth: 2 }), '[ [ [ [Message] ] ] ]')
})

test('a value that cannot be decoded is shown as bytes', async (t) => {
  const bus = await place(t).bus()
  const codec = { id: 'odd', encode: () => new Uint8Array(1), decode: (): unknown => assert.fail() }
  const publisher = await bus.publisher('odd', { codec })
  const subscriber = await bus.subscriber('odd', { codec })
  await subscriber.attached()
  publisher.send(1)
  const message = await subscriber.receive()
  t.regex(inspect(message), /data: Uint8Array\(1\)/)
  t.throws(() => JSON.stringify(message), { code: 'ERR_RINGBELL_CODEC' })
})

test('batches of every lifetime', async (t) => {
  const { subscriber, publisher } = await scene(t, [] as number[])
  for (const lifetime of ['owned', 'borrowed', 'lease'] as const) {
    const batches: unknown[] = []
    for (const value of [1, 2]) {
      t.true(publisher.send(value))
      const batch = await nextBatch(subscriber, lifetime)
      t.like(JSON.parse(JSON.stringify(batch)), [{ service: 'shown', value }])
      t.regex(inspect(batch), /^Batch \{[^]*messages: \[[^]*value: \d\n/)
      batches.push(Object.prototype.toString.call(batch))
      if (lifetime === 'owned') batches.push(batch)
      batch.release()
      t.is(/released: true/.test(inspect(batch)), lifetime !== 'owned')
    }
    t.is(new Set(batches).size, batches.length)
    if (lifetime === 'owned') t.throws(() => assert.deepStrictEqual(batches[1], batches[3]))
  }
})

async function nextBatch(subscriber: Subscriber<number>, lifetime: 'owned' | 'borrowed' | 'lease') {
  for (;;) {
    const batch = subscriber.tryReceiveBatch({ lifetime })
    if (batch !== undefined) return batch
    await new Promise((done) => setTimeout(done, 1))
  }
}

test('a connection', async (t) => {
  const bus = await place(t).bus()
  await bus.serve('peer')
  const client = await bus.connect('peer')
  const connection = await client.connected()
  connection.data = { mine: 1n }
  t.like(JSON.parse(JSON.stringify(connection)), {
    peer: { pid: process.pid },
    service: { name: 'peer' },
    rung: connection.rung,
    closed: false,
  })
  t.regex(inspect(connection), /^Connection \{\n {2}peer: [^]*closed: false,\n {2}data: \{ mine: 1n \}\n\}$/)
})
