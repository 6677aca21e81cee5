/**
 * Bytes that their owner transfers or resizes while they wait to be sent in pieces, and those that are more than the core takes: that one
 * message fails, and nothing else.
 */
import test, { type ExecutionContext } from 'ava'
import { KIND } from '../../../src/channel/wire.js'
import { fakeBus, turns } from '../../helpers/fake-channel.js'

const LARGE = 100_000
const CHANGED = { code: 'ERR_RINGBELL_INVALID_OPTION', message: /must not change/ }
const byte = (n: number): Uint8Array => Uint8Array.of(n)

function resizable(bytes: number): [Uint8Array, () => void] {
  // Not yet in the types that this is compiled with.
  const Resizable = ArrayBuffer as unknown as new (
    bytes: number,
    options: object,
  ) => ArrayBuffer & { resize(to: number): void }
  const buffer = new Resizable(LARGE, { maxByteLength: 2 * LARGE })
  return [new Uint8Array(buffer), () => buffer.resize(bytes)]
}

/** Memory, and what becomes of it. */
const CHANGES: (() => [data: Uint8Array, change: () => void])[] = [
  () => {
    const data = new Uint8Array(LARGE)
    return [data, () => void structuredClone(data, { transfer: [data.buffer] })]
  },
  ...[0, 10, 2 * LARGE].map((bytes) => () => resizable(bytes)),
]

/** Request 1 is answered with `answer`, 2 with an endless stream of it, 3 with a stream of one; any other request is sent back. */
async function scene(t: ExecutionContext, answer: Uint8Array) {
  const { bus, fake } = fakeBus(t)
  const ended: string[] = []
  async function* values() {
    try {
      yield answer
      for (;;) yield byte(9)
    } finally {
      ended.push('stream')
    }
  }
  async function* value() {
    yield answer
  }
  const server = await bus.serve('calls', (request) => {
    if (request.byteLength > 1 || request[0] === 0) return byte(request[0] ?? 0)
    if (request[0] === 3) return value()
    return request[0] === 1 ? answer : values()
  })
  const client = await bus.connect('calls')
  await client.connected()
  while (server.connections.length === 0) await turns()
  const [there, here] = fake.made.map((one) => one.sides.get(0)?.in)
  if (there === undefined || here === undefined) throw new Error('nobody is there')
  /** Changes it while nothing of what was sent is read; all of it is read afterwards. */
  const changing = async (change: () => void): Promise<void> => {
    await turns(3)
    change()
    there.held = here.held = false
    for (const one of fake.made) one.wakeSoon()
  }
  const check = async (): Promise<void> => {
    t.deepEqual(await client.call(byte(0)), byte(0))
    t.like(server.stats(), { connections: 1, inHand: 0 })
    t.is(client.stats().inFlight, 0)
  }
  return { fake, server, client, there, here, ended, changing, check }
}

test('a request, whether it has begun or waits behind another one', async (t) => {
  for (const make of CHANGES)
    for (const begun of [true, false]) {
      const [data, change] = make()
      const { client, there, changing, check } = await scene(t, data)
      there.held = true
      const before = begun ? undefined : client.call(new Uint8Array(LARGE))
      const call = client.call(data)
      const after = client.call(byte(0))
      await changing(change)
      await t.throwsAsync(call, CHANGED)
      t.deepEqual([await before, await after], [begun ? undefined : byte(0), byte(0)])
      await check()
    }
})

test('a reply, and a value of a stream, of which the handler is told', async (t) => {
  for (const make of CHANGES)
    for (const what of [1, 2]) {
      const [data, change] = make()
      const { client, here, ended, changing, check } = await scene(t, data)
      here.held = true
      const answer = what === 1 ? client.call(byte(1)) : client.stream(byte(2)).next()
      await changing(change)
      await t.throwsAsync(answer, { ...CHANGED, name: 'RemoteError', code: 'ERR_RINGBELL_REMOTE' })
      await check()
      t.deepEqual(ended, what === 1 ? [] : ['stream'])
    }
})

test('the last value of a stream, even if credit comes while it is sent', async (t) => {
  for (const make of CHANGES) {
    const [data, change] = make()
    const { fake, client, here, changing, check } = await scene(t, data)
    here.held = true
    const stream = client.stream(byte(3))
    const value = stream.next()
    await turns(3)
    fake.made[1]?.inject(0, KIND.credit, 1, 1, byte(0))
    await changing(change)
    await t.throwsAsync(value, { ...CHANGED, name: 'RemoteError', code: 'ERR_RINGBELL_REMOTE' })
    await check()
  }
})

test('a message, whose credit comes back', async (t) => {
  for (const make of CHANGES) {
    const { server, client, there, changing, check } = await scene(t, byte(0))
    const [connection] = client.connections
    const [inbox] = server.connections
    for (let n = 0; n < 8; n++) {
      const [data, change] = make()
      there.held = true
      const before: Promise<unknown>[] = []
      // Where the ring is full, it does not even begin.
      while (n % 2 === 1 && there.room(1024)) before.push(client.call(new Uint8Array(900)))
      const writing = connection?.write(data)
      await changing(change)
      await t.throwsAsync(writing as Promise<void>, CHANGED)
      await Promise.all(before)
      await check()
    }
    await connection?.write(byte(3))
    t.deepEqual(await inbox?.receive(), byte(3))
    await check()
  }
})

test('a request, a reply, a value of a stream and a message that are more than the core takes', async (t) => {
  const { fake, client, server, check } = await scene(t, new Uint8Array(LARGE))
  for (const one of fake.made) one.largest = LARGE - 1
  const other = client.call(new Uint8Array(LARGE - 1))
  await t.throwsAsync(client.call(new Uint8Array(LARGE)), { code: 'ERR_RINGBELL_MESSAGE_TOO_LARGE' })
  for (const answer of [client.call(byte(1)), client.stream(byte(2)).next(), client.stream(byte(3)).next()])
    await t.throwsAsync(answer, { code: 'ERR_RINGBELL_REMOTE', message: new RegExp(`${LARGE} bytes`) })
  t.deepEqual(await other, byte(0))
  const [connection] = client.connections
  for (let n = 0; n < 8; n++)
    await t.throwsAsync(connection!.write(new Uint8Array(LARGE)), { code: 'ERR_RINGBELL_MESSAGE_TOO_LARGE' })
  await connection!.write(byte(3))
  t.deepEqual(await server.connections[0]!.receive(), byte(3))
  await check()
})
