/** Plain messages, descriptors and the rules of a connection, over the fake. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import test from 'ava'
import type { Connection } from 'ringbell'
import { Endpoint, type EndpointHost } from '../../../src/channel/endpoint.js'
import { KIND, MESSAGE_WINDOW } from '../../../src/channel/wire.js'
import { RingbellError } from '../../../src/errors.js'
import { fakeBus, turns } from '../../helpers/fake-channel.js'

const nothing = (): void => {}
const nobody: EndpointHost = {
  what: 'test',
  maxMessage: 2 ** 20,
  opened: nothing,
  ended: nothing,
  unconnected: nothing,
  failed: nothing,
  request: nothing,
  message: nothing,
  credit: nothing,
  goodbye: nothing,
  fds: nothing,
  broken: nothing,
}

async function pair(t: Parameters<typeof fakeBus>[0], capacity = 65_536) {
  const { bus, fake } = fakeBus(t)
  const server = await bus.serve('talk', { capacity })
  const connected = once(server, 'connected') as Promise<[Connection]>
  const client = await bus.connect('talk')
  const mine = await client.connected()
  const [theirs] = await connected
  return { bus, fake, server, client, mine, theirs }
}

test('messages go both ways, in order, beside each other', async (t) => {
  const { mine, theirs, client } = await pair(t)
  for (let n = 0; n < 100; n++) t.true(mine.send(Uint8Array.of(n)))
  t.true(theirs.send(Uint8Array.of(200)))
  t.deepEqual(await mine.receive(), Uint8Array.of(200))
  let n = 0
  for await (const message of theirs) {
    t.is(message[0], n++)
    if (n === 100) break
  }
  const end = once(client, 'disconnected')
  await theirs.close()
  await t.throwsAsync(mine.receive(), { code: 'ERR_RINGBELL_CLOSED' })
  t.is((await end)[1], 'closed')
  t.throws(() => mine.send(Uint8Array.of(1)), { code: 'ERR_RINGBELL_PEER_GONE' })
  t.true(mine.closed && theirs.closed)
})

test('a slow reader holds up its sender, not the calls beside it', async (t) => {
  const { bus } = fakeBus(t)
  const server = await bus.serve('both', { capacity: 1 << 20 }, (request) => request)
  const connected = once(server, 'connected') as Promise<[Connection]>
  const client = await bus.connect('both')
  const mine = await client.connected()
  const [theirs] = await connected
  const message = new Uint8Array(1000)
  let sent = 0
  while (mine.send(message)) sent++
  t.is(sent, Math.ceil(MESSAGE_WINDOW / 1016))
  await turns(5)
  t.false(mine.send(message))
  t.is((await client.call(Uint8Array.of(1)))[0], 1)
  const ready = mine.ready()
  for (let n = 0; n < sent; n++) await theirs.receive()
  await ready
  t.true(mine.send(message))
  const aborted = new AbortController()
  while (mine.send(message)) sent++
  const waiting = mine.ready({ signal: aborted.signal })
  aborted.abort()
  await t.throwsAsync(waiting, { code: 'ABORT_ERR' } as object)
})

test('a value that cannot be decoded ends the loop and frees its sender', async (t) => {
  const { bus, fake } = fakeBus(t)
  const server = await bus.serve('talk', { codec: 'json', capacity: 1 << 20 })
  const connected = once(server, 'connected') as Promise<[Connection<unknown>]>
  const client = await bus.connect('talk', { codec: 'json' })
  const mine = (await client.connected()) as unknown as Connection<unknown>
  const [theirs] = await connected
  const iteration = theirs.messages()
  const asked = [iteration.next(), iteration.next(), iteration.next()] as const
  await turns(2)
  mine.send('good')
  t.deepEqual(await asked[0], { value: 'good', done: false })
  fake.made[1]?.inject(0, KIND.message, 0, 0, Buffer.from('{"a":'))
  await t.throwsAsync(asked[1], { code: 'ERR_RINGBELL_CODEC' })
  t.true((await asked[2]).done)
  const text = 'x'.repeat(1000)
  for (let sent = 0; sent < 2 * MESSAGE_WINDOW; sent += text.length) {
    while (!mine.send(text)) await mine.ready()
    t.is(await theirs.receive(), text)
  }
})

test('a value that cannot be decoded rejects receive; the others arrive', async (t) => {
  const { bus, fake } = fakeBus(t)
  const server = await bus.serve('talk', { codec: 'json' }, (request) => request)
  const connected = once(server, 'connected') as Promise<[Connection<unknown>]>
  const client = await bus.connect('talk', { codec: 'json' })
  const [theirs] = await connected
  for (let round = 0; round < 3; round++) {
    const waiting = theirs.receive()
    await turns(2)
    fake.made[1]?.inject(0, KIND.message, 0, 0, Buffer.from('{"a":'))
    const call = client.call(round)
    await t.throwsAsync(waiting, { code: 'ERR_RINGBELL_CODEC' })
    t.is(await call, round)
  }
})

test('a decoding error in a batch loses no other message', async (t) => {
  const { fake, client } = await pair(t)
  const native = fake.channel()
  const got: number[] = []
  const failures: unknown[] = []
  const endpoint = new Endpoint(
    native,
    {
      ...nobody,
      request: (_link, _flags, id) => {
        got.push(id)
        if (id === 2) throw new Error('a mistake')
        if (id === 3) throw Object.defineProperty(new Error('hidden'), 'message', { get: () => assert.fail() })
      },
      failed: (error, link) => failures.push([error, link.number]),
    },
    'sleep',
  )
  t.teardown(() => endpoint.close(new RingbellError('ERR_RINGBELL_CLOSED', 'the test is over')))
  endpoint.want()
  native.connect(fake.made[0]?.recordJson ?? '')
  await turns(2)
  const inject = (id: number): void => fake.made[0]?.inject(1, KIND.request, id, 0, new Uint8Array(1))
  for (const id of [1, 2, 3]) inject(id)
  await turns(3)
  inject(4)
  await turns(3)
  t.deepEqual(got, [1, 2, 3, 4])
  t.like(failures, [
    [{ code: 'ERR_RINGBELL_INTERNAL', cause: { message: 'a mistake' } }, 0],
    [{ code: 'ERR_RINGBELL_INTERNAL', message: 'This test failed: the thrown value cannot be described' }, 0],
  ])
  t.is(client.connections.length, 1)
})

test('an endpoint polls on after its handler has thrown', async (t) => {
  const { fake } = await pair(t)
  const native = fake.channel()
  const got: number[] = []
  const fail = (): never => {
    throw new Error('a mistake')
  }
  const endpoint = new Endpoint(
    native,
    { ...nobody, request: (_link, _flags, id) => (id === 1 ? fail() : got.push(id)), failed: fail },
    'sleep',
  )
  t.teardown(() => endpoint.close(new RingbellError('ERR_RINGBELL_CLOSED', 'the test is over')))
  endpoint.want()
  native.connect(fake.made[0]?.recordJson ?? '')
  await turns(2)
  const inject = (id: number): void => fake.made[0]?.inject(1, KIND.request, id, 0, new Uint8Array(1))
  inject(1)
  t.true(endpoint.poll(0))
  t.throws(() => endpoint.ready(), { message: 'a mistake' })
  inject(2)
  await turns(3)
  t.deepEqual(got, [2])
})

test('write sends any size, and waits for room', async (t) => {
  const { mine, theirs } = await pair(t, 4096)
  t.throws(() => mine.send(new Uint8Array(5000)), { code: 'ERR_RINGBELL_MESSAGE_TOO_LARGE' })
  const sizes = [100_000, 10, 1000, 1000, 1000, 1000, 1000, 1000, 50_000]
  const writing = (async () => {
    for (const [n, size] of sizes.entries()) await mine.write(new Uint8Array(size).fill(n))
  })()
  for (const [n, size] of sizes.entries()) {
    const message = await theirs.receive()
    t.is(message.byteLength, size)
    t.is(message.at(-1), n)
  }
  await writing
  const lost = mine.write(new Uint8Array(1_000_000))
  await theirs.close()
  await t.throwsAsync(lost, { code: 'ERR_RINGBELL_PEER_GONE' })
})

test('a wait on a connection is told when the connection ends', async (t) => {
  const { mine, theirs, fake } = await pair(t)
  const waits = [mine.receive(), mine.receiveFds()]
  const iteration = mine.messages()
  t.throws(() => mine.messages(), { code: 'ERR_RINGBELL_BUSY' })
  await t.throwsAsync(mine.receive(), { code: 'ERR_RINGBELL_BUSY' })
  await t.throwsAsync(mine.receiveFds(), { code: 'ERR_RINGBELL_BUSY' })
  fake.made[0]?.die()
  await t.throwsAsync(waits[0] as Promise<unknown>, { code: 'ERR_RINGBELL_CLOSED' })
  await t.throwsAsync(waits[1] as Promise<unknown>, { code: 'ERR_RINGBELL_PEER_GONE' })
  t.true((await iteration.next()).done)
  t.false(theirs.closed, 'it died, and knows nothing')
})

test('descriptors arrive with their bytes, wait for room, can be aborted', async (t) => {
  const { mine, theirs } = await pair(t)
  const first = theirs.receiveFds()
  await mine.sendFds(Buffer.from('a'), [3, 4])
  t.deepEqual(await first, { data: new Uint8Array(Buffer.from('a')), fds: [3, 4] })
  const sending = [5, 6, 7, 8].map((fd) => mine.sendFds(new Uint8Array(0), [fd]))
  const control = new AbortController()
  const off = mine.sendFds(new Uint8Array(0), [9], { signal: control.signal })
  await turns(2)
  control.abort()
  await t.throwsAsync(off, { code: 'ABORT_ERR' } as object)
  for (const fd of [5, 6, 7, 8]) t.deepEqual((await theirs.receiveFds()).fds, [fd])
  await Promise.all(sending)
  await t.throwsAsync(mine.sendFds(new Uint8Array(0), []), { code: 'ERR_RINGBELL_INVALID_OPTION' })
  await t.throwsAsync(mine.sendFds(new Uint8Array(0), [-1]), { code: 'ERR_RINGBELL_INVALID_OPTION' })
  await t.throwsAsync(mine.sendFds(new Uint8Array(40_000), [1]), { code: 'ERR_RINGBELL_INVALID_OPTION' })
})

test('a peer that breaks the rules is disconnected; the others stay', async (t) => {
  const { fake, server, client, bus } = await pair(t, 1 << 20)
  const other = await bus.connect('talk')
  await other.connected()
  const evil = fake.made[1]
  const failed = once(server, 'failed')
  for (let sent = 0; sent <= MESSAGE_WINDOW + 1016; sent += 1016)
    evil?.inject(0, KIND.message, 0, 0, new Uint8Array(1000))
  t.like((await failed)[0], { code: 'ERR_RINGBELL_CORRUPT_PEER' })
  if (client.connections.length > 0) await once(client, 'disconnected')
  t.is(server.connections.length, 1)
  t.is(other.connections.length, 1)
  // Strays of every kind are no breach: what they answer may have been given up.
  for (const kind of [KIND.reply, KIND.error, KIND.chunk, KIND.end, KIND.cancel, KIND.credit, 99])
    fake.made[2]?.inject(0, kind, 12_345, 1, Buffer.from('{"code":{}}'))
  await turns(3)
  t.is(other.connections.length, 1)
})

test('duplicate replies and errors that are not JSON do no harm', async (t) => {
  const { bus, fake } = fakeBus(t)
  await bus.serve('odd', () => new Promise<never>(() => {}))
  const client = await bus.connect('odd')
  const call = client.call(Uint8Array.of(1))
  const bad = client.call(Uint8Array.of(2))
  await turns(3)
  const server = fake.made[0]
  for (let twice = 0; twice < 2; twice++) server?.inject(0, KIND.reply, 1, 0, Uint8Array.of(9))
  server?.inject(0, KIND.error, 2, 0, Uint8Array.of(0xff, 0x00))
  t.deepEqual(await call, Uint8Array.of(9))
  await t.throwsAsync(bad, { name: 'RemoteError' })
  t.is(client.connections.length, 1)
})

test('a duplicate request, or a request by a server, is a breach', async (t) => {
  const { bus, fake } = fakeBus(t)
  const server = await bus.serve('odd', () => new Promise<never>(() => {}))
  const client = await bus.connect('odd', { reconnect: { tries: 1, delay: 60_000 } })
  await client.connected()
  const failed = once(server, 'failed')
  for (let twice = 0; twice < 2; twice++) fake.made[1]?.inject(0, KIND.request, 77, 0, Uint8Array.of(1))
  t.like((await failed)[0], { code: 'ERR_RINGBELL_CORRUPT_PEER' })
  const second = await bus.connect('odd')
  await second.connected()
  const told = once(second, 'failed')
  fake.made[0]?.inject(1, KIND.request, 1, 0, Uint8Array.of(1))
  t.like((await told)[0], { code: 'ERR_RINGBELL_CORRUPT_PEER' })
})
