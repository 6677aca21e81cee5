/** Two or three buses on one machine, as if they were on several, and a real nats-server between them. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { connect } from '@nats-io/transport-node'
import type { ExecutionContext } from 'ava'
import {
  type Bus,
  type Client,
  type MessageHeaders,
  type Publisher,
  type RemoteError,
  type Service,
  type Subscriber,
} from 'ringbell'
import { Bridge, type BridgeOptions } from 'ringbell/nats'
import { PACKET, withJson } from '../../src/bridge/wire.js'
import { Cli, scene } from '../helpers/cli-process.js'
import { natsServer, natsTest, Way } from '../helpers/nats.js'
import { codeOf, place, until } from '../helpers/place.js'
import { folder } from '../helpers/scratch.js'

interface Site {
  readonly bus: Bus
  readonly bridge: Bridge
}

/** A bus of its own, with a bridge. */
async function site(t: ExecutionContext, servers: string, options: Partial<BridgeOptions> = {}): Promise<Site> {
  const ground = place(t)
  const bus = await ground.bus()
  const bridge = await opened(bus, { servers, topics: ['t.*'], services: ['s.*'], lease: 2000, ...options })
  ground.onEnd(() => bridge.close())
  return { bus, bridge }
}

async function opened(bus: Bus, options: BridgeOptions): Promise<Bridge> {
  const bridge = await Bridge.open(bus, options)
  bridge.on('failed', () => {})
  return bridge
}

/** The mirror of an instance. */
function seen(bus: Bus, name: string): Promise<Service> {
  return until(() => bus.services.find(name))
}

function gone(bus: Bus, name: string): Promise<true> {
  return until(() => bus.services.find(name) === undefined)
}

async function take<T>(subscriber: Subscriber<T>, count: number): Promise<T[]> {
  const values: T[] = []
  while (values.length < count) values.push((await subscriber.receive()).value)
  return values
}

/** The number at the beginning of each. */
const numbersOf = (messages: readonly Uint8Array[]): number[] =>
  messages.map((message) => Buffer.from(message).readUInt32LE(0))

const upTo = (count: number): number[] => Array.from({ length: count }, (_, n) => n)

natsTest('a topic appears on another bus, and its messages travel only while somebody reads them there', async (t) => {
  const { url } = await natsServer(t)
  const [here, there] = [await site(t, url), await site(t, url)]
  const codec = 'json'
  const publisher = await here.bus.publisher<number>('t.a', { codec, schemaId: 'n/1', metadata: { unit: 'K' } })
  const hidden = await here.bus.publisher('private')
  const mirror = await seen(there.bus, 't.a')
  t.like(mirror, { codec, schemaId: 'n/1', kind: 'topic' })
  t.like(mirror.metadata, { unit: 'K' })
  t.like(mirror.origin, { id: publisher.service.id, hops: 1 })
  t.is(publisher.service.origin, undefined)
  t.true(publisher.send(-1))
  t.is(publisher.subscribers, 0)

  const subscriber = await there.bus.subscriber<number>('t.*', { codec, schemaId: 'n/1' })
  await publisher.attached()
  const COUNT = 20_000
  const sending = (async () => {
    for (const n of upTo(COUNT)) while (!publisher.send(n)) await publisher.ready()
  })()
  t.deepEqual(await take(subscriber, COUNT), upTo(COUNT))
  await sending
  t.like(here.bridge.stats(), { exported: 1, imported: 0, sent: COUNT, oversized: 0, wrong: 0 })
  t.like(there.bridge.stats(), { exported: 0, imported: 1, received: COUNT, missed: 0, wrong: 0 })
  t.is(there.bridge.stats().peers[0]?.bus, mirror.origin?.bus)

  publisher.update({ unit: 'C' })
  await until(() => there.bus.services.find('t.a')?.metadata['unit'] === 'C')
  await subscriber.close()
  await until(() => publisher.subscribers === 0)
  t.is(there.bus.services.find('private'), undefined)
  await hidden.close()
})

natsTest('what a publisher sends last arrives, and then its end', async (t) => {
  const { url } = await natsServer(t)
  const [here, there] = [await site(t, url, { window: 65_536 }), await site(t, url, { window: 65_536 })]
  const publisher = await here.bus.publisher('t.a')
  await seen(there.bus, 't.a')
  const subscriber = await there.bus.subscriber('t.a')
  const ended = new Promise((resolve) => subscriber.once('ended', resolve))
  await publisher.attached()
  // More than is under way at a time, so that most of it is still in the ring when the publisher closes.
  const message = Buffer.alloc(1000)
  for (const n of upTo(1000)) {
    message.writeUInt32LE(n)
    t.true(publisher.send(message))
  }
  await publisher.close()
  t.deepEqual(numbersOf(await take(subscriber, 1000)), upTo(1000))
  await ended
  await gone(there.bus, 't.a')
})

natsTest('a slow reader on another bus holds a block topic back, and only that', async (t) => {
  const { url } = await natsServer(t)
  const [here, there] = [await site(t, url, { window: 65_536 }), await site(t, url, { window: 65_536 })]
  const held = await here.bus.publisher('t.held', { capacity: 65_536 })
  const free = await here.bus.publisher('t.free', { capacity: 65_536, overflow: 'drop-oldest' })
  await seen(there.bus, 't.held')
  await seen(there.bus, 't.free')
  const slow = await there.bus.subscriber('t.held')
  const fast = await there.bus.subscriber('t.free')
  await Promise.all([held.attached(), free.attached()])
  // A ring here, a window on its way and a ring there: the publisher is held back before it has sent a thousand of these.
  const message = Buffer.alloc(1000)
  const COUNT = 1000
  let sent = 0
  const sending = (async () => {
    for (; sent < COUNT; sent++) {
      message.writeUInt32LE(sent)
      await held.write(message)
    }
  })()
  // Nothing is read there: the ring there is full, a window is under way, and the ring here is full. A quarter of the window may be
  // written there without being told here, so 48 messages are surely under way.
  const underWay = (): number => here.bridge.stats().sent - there.bridge.stats().received
  await until(() => underWay() > 40 && held.stats().waits > 0 && (slow.stats().sources[0]?.publisher.full ?? 0) > 0)
  // So it stays, while the other topic goes on.
  for (const n of upTo(50)) {
    free.send(Buffer.from([n]))
    t.deepEqual([...(await fast.receive()).value], [n])
  }
  t.true(sent < COUNT / 2, `${sent} were sent`)
  t.true(underWay() < 150, `${underWay()} are under way`)
  const got = await take(slow, COUNT)
  await sending
  t.deepEqual(numbersOf(got), upTo(COUNT))
})

natsTest('calls reach a server on another bus, as they would here', async (t) => {
  const { url } = await natsServer(t)
  const [here, there] = [await site(t, url), await site(t, url)]
  let running = 0
  let ended = 0
  const server = await here.bus.serve<{ do: string; n?: number }>(
    's.a',
    { codec: 'json' },
    async function (request, context) {
      switch (request.do) {
        case 'add':
          return (request.n ?? 0) + 1
        case 'nothing':
          return undefined
        case 'fail':
          throw Object.assign(new TypeError('no', { cause: new Error('why') }), { code: 'E_NO', status: 404 })
        case 'hang':
          running++
          context.signal.addEventListener('abort', () => running--)
          return new Promise(() => {})
        default:
          return numbers(request.n ?? 0, () => ended++)
      }
    },
  )
  const mirror = await seen(there.bus, 's.a')
  t.is(mirror.origin?.id, server.service.id)
  const client = await there.bus.connect<object, unknown>('s.a', { codec: 'json' })
  t.deepEqual(
    await Promise.all(upTo(500).map((n) => client.call({ do: 'add', n }))),
    upTo(500).map((n) => n + 1),
  )
  t.is(await client.call({ do: 'nothing' }), undefined)
  const error = (await client.call({ do: 'fail' }).catch((thrown: unknown) => thrown)) as RemoteError
  t.like(error, { code: 'E_NO', message: 'no', remoteName: 'TypeError', status: 404 })
  t.is((error.cause as Error).message, 'why')

  t.is(await codeOf(() => client.call({ do: 'hang' }, { timeout: 20 })), 'ERR_RINGBELL_TIMEOUT')
  // Its request may be on its way.
  await until(async () => (await client.call({ do: 'nothing' })) === undefined && running === 0)
  const over = new AbortController()
  const given = codeOf(() => client.call({ do: 'hang' }, { signal: over.signal }))
  await until(() => running > 0)
  over.abort()
  t.is(await given, 'ABORT_ERR')
  await until(() => running === 0)

  const all: unknown[] = []
  for await (const n of client.stream({ do: 'count', n: 200 })) all.push(n)
  t.deepEqual(all, upTo(200))
  await until(() => ended === 1)
  for await (const n of client.stream({ do: 'count', n: 1e9 })) if (n === 100) break
  await until(() => ended === 2)
  t.is(await codeOf(() => client.call({ do: 'count', n: 3 })), 'ERR_RINGBELL_STREAM')
  const { made } = there.bridge.stats()
  t.true(made > 500)
  t.like(here.bridge.stats(), { served: made, made: 0, wrong: 0 })
})

async function* numbers(count: number, ended: () => void): AsyncGenerator<number, void> {
  try {
    for (let n = 0; n < count; n++) yield n
  } finally {
    ended()
  }
}

natsTest('headers cross with messages, calls and replies, and cost nothing where there are none', async (t) => {
  const { url } = await natsServer(t)
  const [here, there] = [await site(t, url), await site(t, url)]
  const publisher = await here.bus.publisher<number>('t.a', { codec: 'json', capacity: 65_536 })
  const bytes = await here.bus.publisher('t.large', { capacity: 65_536 })
  await here.bus.serve<string, string>('s.a', { codec: 'json' }, async (request, context) => {
    if (request !== 'nothing') context.replyHeaders = { from: 'here', asked: context.headers['lang'] }
    return context.headers['lang'] ?? 'none'
  })
  await here.bus.serve<null, string>('s.many', { codec: 'json' }, async function* (_, { headers }) {
    yield String(headers['lang'])
  })
  await seen(there.bus, 't.a')
  await seen(there.bus, 't.large')
  const subscriber = await there.bus.subscriber<number>('t.a', { codec: 'json' })
  const large = await there.bus.subscriber('t.large')
  await Promise.all([publisher.attached(), bytes.attached()])
  const headersOf = (n: number): MessageHeaders => (n % 3 === 0 ? {} : { n: String(n), text: 'grün'.repeat(n % 7) })
  for (const n of upTo(300)) await publisher.write(n, n % 3 === 0 ? undefined : { headers: headersOf(n) })
  for (const n of upTo(300)) {
    const { value, headers } = await subscriber.receive()
    t.deepEqual([value, { ...headers }], [n, headersOf(n)])
  }
  await bytes.write(Buffer.alloc(200_000, 7), { headers: { size: 'large' } })
  const { value, headers } = await large.receive()
  t.deepEqual([value.byteLength, value.every((byte) => byte === 7), headers['size']], [200_000, true, 'large'])

  const client = await there.bus.connect<string, string>('s.a', { codec: 'json' })
  const answer = await client.exchange('x', { headers: { lang: 'de' } })
  t.deepEqual([answer.value, { ...answer.headers }], ['de', { from: 'here', asked: 'de' }])
  const bare = await client.exchange('nothing')
  t.deepEqual([bare.value, { ...bare.headers }], ['none', {}])
  const many = await there.bus.connect<null, string>('s.many', { codec: 'json' })
  for await (const chunk of many.stream(null, { headers: { lang: 'fr' } })) t.is(chunk, 'fr')
  for (const { bridge } of [here, there]) t.like(bridge.stats(), { wrong: 0, oversized: 0, missed: 0 })
})

/** Names the bus that answers. */
async function serve(bus: Bus, name: string, answer: string): Promise<{ close(): Promise<void> }> {
  return bus.serve<unknown, string>(name, { codec: 'json' }, async () => answer)
}

natsTest('a server of this bus is preferred, and another one takes over', async (t) => {
  const { url } = await natsServer(t)
  const [here, there] = [await site(t, url), await site(t, url)]
  await serve(here.bus, 's.a', 'far')
  await seen(there.bus, 's.a')
  const clients: Client<unknown, string>[] = []
  for (const route of ['first', 'round-robin', 'least-busy'] as const)
    clients.push(await there.bus.connect<unknown, string>('s.a', { codec: 'json', route }))
  // One that is closed just now refuses.
  const answers = (): Promise<string[]> =>
    Promise.all(clients.map((client) => client.call(1).catch((error: RemoteError) => String(error.code))))
  t.deepEqual(await answers(), ['far', 'far', 'far'])
  const near = await serve(there.bus, 's.a', 'near')
  await until(async () => (await answers()).every((answer) => answer === 'near'))
  t.is((await seen(there.bus, 's.a')).origin, undefined)
  await near.close()
  await until(async () => (await answers()).every((answer) => answer === 'far'))
})

natsTest('three buses see each other once; nothing goes round, and a second bridge stands by', async (t) => {
  const { url } = await natsServer(t)
  const sites = [await site(t, url), await site(t, url), await site(t, url)]
  const [first] = sites as [Site, Site, Site]
  const second = await opened(first.bus, { servers: url, topics: ['t.*'], services: ['s.*'], lease: 2000 })
  t.teardown(() => second.close())
  t.is(second.state, 'standby')
  for (const [at, { bus }] of sites.entries()) await serve(bus, 's.a', String(at))
  for (const { bus } of sites) await until(() => bus.services.list().filter(({ name }) => name === 's.a').length === 3)
  for (const { bridge } of sites) t.like(bridge.stats(), { exported: 1, imported: 2, wrong: 0 })
  for (const { bus } of sites) {
    const client = await bus.connect<unknown, string>('s.a', { codec: 'json', route: 'round-robin' })
    const all = bus.services.list().filter(({ name, kind }) => name === 's.a' && kind === 'server')
    await until(() => client.connections.length === 3)
    const answers = await Promise.all(all.map(({ id }) => client.call(1, { instance: id })))
    t.deepEqual(answers.sort(), ['0', '1', '2'])
  }
  await first.bridge.close()
  await until(() => second.state === 'active')
  for (const { bus } of sites) await until(() => bus.services.list().filter(({ name }) => name === 's.a').length === 3)
})

/** A topic, and a server whose calls never end, as the other machine sees them. */
async function topicAndCalls(
  here: Bus,
  there: Bus,
): Promise<{
  publisher: Publisher<number>
  subscriber: Subscriber<number>
  running: () => number
}> {
  const publisher = await here.publisher<number>('t.a', { codec: 'json' })
  let running = 0
  await here.serve('s.a', async () => {
    running++
    return new Promise<Uint8Array>(() => {})
  })
  await seen(there, 't.a')
  await seen(there, 's.a')
  const subscriber = await there.subscriber<number>('t.a', { codec: 'json' })
  await publisher.attached()
  return { publisher, subscriber, running: () => running }
}

natsTest('nats-server is killed and starts again: a block topic loses nothing, and calls are told', async (t) => {
  const server = await natsServer(t)
  const [here, there] = [await site(t, server.url, { lease: 60_000 }), await site(t, server.url, { lease: 60_000 })]
  const { publisher, subscriber, running } = await topicAndCalls(here.bus, there.bus)
  const COUNT = 30_000
  const sending = (async () => {
    for (const n of upTo(COUNT)) await publisher.write(n)
  })()
  const client = await there.bus.connect('s.a')
  const pending = codeOf(() => client.call(Buffer.alloc(1)))
  await until(() => running() === 1)
  const before = await take(subscriber, 1000)
  server.child.kill()
  await server.child.end
  t.is(await pending, 'ERR_RINGBELL_OUTCOME_UNKNOWN')
  await until(() => there.bridge.state === 'connecting')
  t.is(await codeOf(() => client.call(Buffer.alloc(1))), 'ERR_RINGBELL_NOT_SENT')
  await server.start()
  t.deepEqual([...before, ...(await take(subscriber, COUNT - 1000))], upTo(COUNT))
  await sending
  t.is(there.bridge.stats().missed, 0)
  await until(() => there.bridge.state === 'active' && here.bridge.state === 'active')
  const again = client.call(Buffer.alloc(1), { signal: AbortSignal.timeout(60_000) })
  again.catch(() => {})
  await until(() => running() === 2)
})

natsTest('a machine that is cut off is gone within its lease, and comes back', async (t) => {
  const { url, port } = await natsServer(t)
  const way = await Way.to(t, port)
  const [here, there] = [await site(t, way.url, { lease: 600 }), await site(t, url, { lease: 600 })]
  const { publisher, subscriber, running } = await topicAndCalls(here.bus, there.bus)
  const client = await there.bus.connect('s.a')
  const pending = codeOf(() => client.call(Buffer.alloc(1)))
  await until(() => running() === 1)
  way.cut()
  await Promise.all([gone(there.bus, 't.a'), gone(there.bus, 's.a')])
  t.is(await pending, 'ERR_RINGBELL_OUTCOME_UNKNOWN')
  // The publisher is not held back for ever by a machine that is gone.
  await until(() => publisher.subscribers === 0)
  way.mend()
  await seen(there.bus, 't.a')
  await publisher.attached()
  await until(() => publisher.send(7) && subscriber.tryReceive()?.value === 7)
})

natsTest('a call to a bridge that was killed is not sent, as NATS tells long before the lease is over', async (t) => {
  const { url } = await natsServer(t)
  const here = await site(t, url, { lease: 60_000 })
  const ground = place(t)
  await serve(await ground.bus(), 's.a', 'far')
  const far = new Cli(ground.path, ['bridge', url, '--services', 's.*', '--lease', '60s'])
  ground.onEnd(() => far.ended())
  await seen(here.bus, 's.a')
  const client = await here.bus.connect<unknown, string>('s.a', { codec: 'json' })
  t.is(await client.call(1), 'far')
  far.kill()
  await far.end
  // NATS may not have noticed for a moment. A call of that time waits.
  await until(async () => (await codeOf(() => client.call(1, { timeout: 500 }))) === 'ERR_RINGBELL_NOT_SENT')
  t.truthy(here.bus.services.find('s.a'))
})

natsTest('what is larger than NATS takes is told and counted, and the rest goes on', async (t) => {
  const server = await natsServer(t, ['--config', limited(t)])
  const [here, there] = [await site(t, server.url), await site(t, server.url)]
  const told: string[] = []
  for (const { bridge } of [here, there]) bridge.on('failed', ({ code }) => told.push(code))
  const publisher = await here.bus.publisher('t.a')
  await here.bus.serve('s.a', async (request) => Buffer.alloc(request[0] === 1 ? 100_000 : 1))
  await seen(there.bus, 't.a')
  await seen(there.bus, 's.a')
  const subscriber = await there.bus.subscriber('t.a')
  await publisher.attached()
  for (const size of [10, 100_000, 20]) t.true(publisher.send(Buffer.alloc(size)))
  t.deepEqual(
    (await take(subscriber, 2)).map(({ byteLength }) => byteLength),
    [10, 20],
  )
  const client = await there.bus.connect('s.a')
  t.is(await codeOf(() => client.call(Buffer.alloc(100_000))), 'ERR_RINGBELL_MESSAGE_TOO_LARGE')
  t.is(await codeOf(() => client.call(Buffer.from([1]))), 'ERR_RINGBELL_MESSAGE_TOO_LARGE')
  t.is((await client.call(Buffer.from([0]))).byteLength, 1)
  t.is(here.bridge.stats().oversized, 2)
  t.like(there.bridge.stats(), { oversized: 1, missed: 1 })
  t.deepEqual(told, ['ERR_RINGBELL_MESSAGE_TOO_LARGE', 'ERR_RINGBELL_MESSAGE_TOO_LARGE'])
})

/** A configuration with a small limit. */
function limited(t: ExecutionContext): string {
  const path = join(folder(t), 'nats.conf')
  writeFileSync(path, 'max_payload: 65536\n')
  return path
}

natsTest('credentials that are refused, and a server that is not there, are told at once', async (t) => {
  const { url } = await natsServer(t, ['--user', 'a', '--pass', 'b'])
  const bus = await place(t).bus()
  t.is(await codeOf(() => Bridge.open(bus, { servers: url, user: 'a', password: 'c' })), 'ERR_RINGBELL_NATS')
  t.is(await codeOf(() => Bridge.open(bus, { servers: 'nats://127.0.0.1:1' })), 'ERR_RINGBELL_NATS')
  t.is(await codeOf(() => Bridge.open(bus, { servers: url, topics: ['no spaces'] })), 'ERR_RINGBELL_INVALID_OPTION')
  const bridge = await Bridge.open(bus, { servers: url, user: 'a', password: 'b' })
  t.is(bridge.state, 'active')
  await bridge.close()
  t.is(bus.claims.query('ringbell.bridge').holder, undefined)
})

natsTest('packets that nobody honest sends are counted, and the link lives on', async (t) => {
  const { url } = await natsServer(t)
  const here = await site(t, url)
  const publisher = await here.bus.publisher<number>('t.a', { codec: 'json' })
  await until(() => here.bridge.stats().exported === 1)
  const nats = await connect({ servers: url })
  t.teardown(() => nats.close())
  const stranger = Buffer.alloc(8, 7)
  const heard = nats.subscribe('ringbell.bridges')
  const beat = { host: 'h', lease: 60_000, revision: 1, connection: 1 }
  nats.publish('ringbell.bridges', withJson(PACKET.beat, stranger, beat))
  // It says where it is with each beat. This connection hears its own, too.
  let bus = stranger.toString('hex')
  for await (const { data } of heard) {
    bus = Buffer.from(data).toString('hex', 2, 10)
    if (bus !== stranger.toString('hex')) break
  }
  const wish = { stream: 2 ** 32, id: publisher.service.id, after: -1, got: 1, taken: 0 }
  nats.publish(`ringbell.bridge.${bus}`, withJson(PACKET.want, stranger, [wish]))
  nats.publish(`ringbell.bridge.${bus}`, withJson(PACKET.want, stranger, 'nonsense'))
  await until(() => here.bridge.stats().wrong > 0)
  t.is(here.bridge.state, 'active')
  const there = await site(t, url)
  const subscriber = await there.bus.subscriber<number>('t.a', { codec: 'json' })
  await publisher.attached()
  await until(() => publisher.send(7) && subscriber.tryReceive()?.value === 7)
})

natsTest('a topic does not crawl where the windows of two machines are different', async (t) => {
  const { url } = await natsServer(t)
  const lease = 600_000
  const here = await site(t, url, { window: 65_536, lease })
  const there = await site(t, url, { window: 2 ** 26, lease })
  const publisher = await here.bus.publisher('t.a')
  await seen(there.bus, 't.a')
  const subscriber = await there.bus.subscriber('t.a')
  await publisher.attached()
  const message = Buffer.alloc(1000)
  const sending = (async () => {
    for (let n = 0; n < 2000; n++) await publisher.write(message)
  })()
  // Without a question, each window would wait for a beat: 200 s.
  t.is((await take(subscriber, 2000)).length, 2000)
  await sending
})

natsTest('ringbell bridge: what it says, and a machine whose bridge is killed', async (t) => {
  const { url } = await natsServer(t)
  const [one, two] = [scene(t), scene(t)]
  const options = ['--topics', 't.*', '--services', 's.*', '--lease', '600ms', '--json']
  const bridge = one.start(['bridge', url, ...options])
  const other = two.start(['bridge', url, ...options])
  one.start(['serve', 's.up', '--', 'tr', 'a-z', 'A-Z'])
  const called = await until(async () => {
    const { code, stdout } = await two.run(['call', 's.up', 'hello', '--timeout', '5s'])
    return code === 0 && stdout.toString()
  })
  t.is(called.trim(), 'HELLO')
  const [listed] = await two.until<{ name: string; origin?: { hops: number } }[]>(['ls'], (all) => all.length > 0)
  t.is(listed?.origin?.hops, 1)
  bridge.kill()
  await two.until<unknown[]>(['ls'], (all) => all.length === 0)
  await until(() => other.stderr.includes('"event":"left"'))
  other.kill('SIGTERM')
  t.is((await other.end).code, 143)
})
