/** Calls, messages, descriptors and queues over the real core, between this process and others. */
import { once } from 'node:events'
import { closeSync, fstatSync, openSync, readFileSync, readSync, writeSync } from 'node:fs'
import test from 'ava'
import type { Connection, RingbellError, Rung, Service } from 'ringbell'
import { peer } from '../helpers/peer.js'
import { codeOf, place, until } from '../helpers/place.js'
import { forcedByEnvironment, rungs, withoutMemory } from '../helpers/rungs.js'

interface Echo {
  value: number
  pid: number
}

test('calls to another process: replies, errors, streams, counters', async (t) => {
  const at = place(t)
  const child = peer(at, 'call-server.mjs')
  const bus = await at.bus()
  const client = await bus.connect<object, unknown>('calls', { codec: 'json' })
  t.deepEqual(await client.call({ op: 'echo', value: 1 }), { value: 1, pid: child.pid })
  const many = (await Promise.all(
    Array.from({ length: 5000 }, (_, value) => client.call({ op: 'echo', value })),
  )) as Echo[]
  t.true(many.every(({ value }, n) => value === n))
  const error = await t.throwsAsync(client.call({ op: 'throw', code: 'E_TOLD' }))
  t.like(error, { name: 'RemoteError', code: 'E_TOLD', message: 'as it was told', remoteName: 'RangeError' })
  let n = 0
  for await (const one of client.stream({ op: 'count', to: 1000 })) t.is(one, n++)
  t.is(n, 1000)
  for await (const one of client.stream({ op: 'count', to: 1e9 })) if (one === 100) break
  t.is(await codeOf(() => client.call({ op: 'never' }, { timeout: 20 })), 'ERR_RINGBELL_TIMEOUT')
  while ((await client.call({ op: 'aborted' })) !== 1) await new Promise(setImmediate)
  const [connection] = client.connections as [Connection<unknown>]
  t.is(connection.peer.pid, child.pid)
  t.is(connection.service?.kind, 'server')
  const stats = await client.serverStats()
  t.is(stats.connections, 1)
  t.true(stats.requests > 5000 && stats.errors === 1 && stats.cancelled >= 1)
  t.is(client.stats().inFlight, 0)
  child.ask('close', { grace: 1000 })
  await child.tells('closed')
  t.is((await child.end).code, 0)
})

for (const rung of rungs.filter((rung) => rung !== 'direct')) {
  test(`${rung}: both sides report the rung, and each connection chooses`, async (t) => {
    const bus = await place(t).bus()
    const server = await bus.serve('echo', {}, async (request) => request)
    for (const acquire of [rung, 'auto'] as const) {
      const client = await bus.connect('echo', { acquire })
      t.is((await client.call(Uint8Array.of(1)))[0], 1)
      const expected = acquire === 'auto' && !forcedByEnvironment && !withoutMemory ? 'handshake' : rung
      t.deepEqual(
        [client, server].map(({ connections: [connection] }) => connection?.rung),
        [expected, expected],
      )
      await client.close()
      await until(() => server.connections.length === 0)
    }
  })
}

test('a request for something not offered is refused with the reason', async (t) => {
  const bus = await place(t).bus()
  for (const offers of [[], ['direct'], ['post']])
    t.is(
      await codeOf(() => bus.serve('odd', { offers: offers as Rung[] }, async () => Uint8Array.of())),
      'ERR_RINGBELL_INVALID_OPTION',
    )
  const server = await bus.serve('echo', { offers: ['stream'] }, async (request) => request)
  t.deepEqual(server.service.offers, ['stream'])
  const client = await bus.connect('echo', { acquire: 'handshake', reconnect: { tries: 1 } })
  const [error] = (await once(client, 'failed')) as [RingbellError, Service]
  t.is(error.code, 'ERR_RINGBELL_ACQUIRE')
  t.regex(error.message, /handshake: the server does not offer it \(NOT_OFFERED\)/)
})

for (const wait of ['sleep', 'spin', 'adaptive'] as const) {
  test(`calls one at a time, both sides ${wait}`, async (t) => {
    const at = place(t)
    const bus = await at.bus()
    await bus.serve('echo', { wait }, async (request) => request)
    const client = await bus.connect('echo', { wait })
    for (let n = 0; n < 500; n++) t.is((await client.call(Uint8Array.of(n & 0xff)))[0], n & 0xff)
  })
}

test('a full ring holds back calls and replies, and loses none', async (t) => {
  const at = place(t)
  const bus = await at.bus()
  await bus.serve('narrow', { capacity: 4096 }, async (request) => request)
  const client = await bus.connect('narrow')
  const replies = await Promise.all(
    Array.from({ length: 2000 }, (_, n) => client.call(new Uint8Array(1000).fill(n & 0xff))),
  )
  t.true(replies.every((reply, n) => reply.byteLength === 1000 && reply[999] === (n & 0xff)))
})

test('plain messages both ways, and back-pressure', async (t) => {
  const at = place(t)
  const bus = await at.bus()
  const server = await bus.serve('talk', { codec: 'json' })
  server.on('connected', (connection) => {
    void (async () => {
      for await (const message of connection) while (!connection.send({ back: message })) await connection.ready()
    })()
  })
  const client = await bus.connect('talk', { codec: 'json' })
  const connection = await client.connected()
  const sending = (async () => {
    for (let n = 0; n < 20_000; n++) while (!connection.send(n)) await connection.ready()
  })()
  for (let n = 0; n < 20_000; n++) t.deepEqual(await connection.receive(), { back: n })
  await sending
  await connection.close()
  await until(() => server.connections.length === 0)
})

test('descriptors arrive open, close-on-exec, with their bytes', async (t) => {
  const at = place(t)
  const bus = await at.bus()
  const server = await bus.serve('files')
  const connected = once(server, 'connected') as Promise<[Connection]>
  const client = await bus.connect('files')
  const mine = await client.connected()
  const [theirs] = await connected
  const path = `${at.path}/.file`
  const fd = openSync(path, 'w+')
  writeSync(fd, 'content')
  await mine.sendFds(Buffer.from('a file'), [fd, fd])
  const { data, fds } = await theirs.receiveFds()
  t.is(Buffer.from(data).toString(), 'a file')
  t.is(fds.length, 2)
  const bytes = Buffer.alloc(7)
  readSync(fds[0] as number, bytes, 0, 7, 0)
  t.is(bytes.toString(), 'content')
  for (const one of fds) {
    t.is(fstatSync(one).ino, fstatSync(fd).ino)
    t.true(
      (Number.parseInt(/flags:\s*(\d+)/.exec(readFileSync(`/proc/self/fdinfo/${one}`, 'utf8'))?.[1] ?? '', 8) &
        0o2000000) >
        0,
    )
    closeSync(one)
  }
  closeSync(fd)
  const unopened = await t.throwsAsync(mine.sendFds(new Uint8Array(0), [0, 9999]), {
    code: 'ERR_RINGBELL_INVALID_OPTION',
  })
  t.regex(unopened.message, /fds.* 9999/)
  const many = Array.from({ length: 200 }, () => mine.sendFds(new Uint8Array(0), [0]))
  for (let n = 0; n < 200; n++) for (const one of (await theirs.receiveFds()).fds) closeSync(one)
  await Promise.all(many)
  const { unlinkSync } = await import('node:fs')
  unlinkSync(path)
})

test('another codec is refused on sight; a queue is no server', async (t) => {
  const at = place(t)
  const bus = await at.bus()
  await bus.serve('typed', { codec: 'json' })
  const client = await bus.connect('typed')
  const [error] = await once(client, 'failed')
  t.like(error, { code: 'ERR_RINGBELL_REFUSED' })
  const queue = await bus.queue('jobs')
  t.is(queue.service.kind, 'queue')
  const caller = await bus.connect('jobs')
  t.is(await codeOf(() => caller.call(new Uint8Array(1), { timeout: 50 })), 'ERR_RINGBELL_TIMEOUT')
})

test('bus.close ends servers, clients, queues and workers', async (t) => {
  const at = place(t)
  const bus = await at.bus()
  await bus.serve('calls', () => new Promise<never>(() => {}))
  const client = await bus.connect('calls')
  const connection = await client.connected()
  const queue = await bus.queue('jobs')
  await bus.worker('jobs', () => new Promise(() => {}))
  queue.push(new Uint8Array(1))
  const pending = [
    client.call(new Uint8Array(1)),
    client.stream(new Uint8Array(1)).next(),
    connection.receive(),
    connection.receiveFds(),
    queue.drained(),
    (await bus.connect('nobody')).connected(),
  ]
  const codes = Promise.all(pending.map((promise) => codeOf(() => promise)))
  await bus.close()
  t.true((await codes).every((code) => code === 'ERR_RINGBELL_CLOSED'))
})

test('large requests and replies, into a buffer too, up to the limits', async (t) => {
  const at = place(t)
  const bus = await at.bus()
  await bus.serve('large', { maxMessage: 2 ** 25 }, (request) => request)
  const client = await bus.connect('large')
  const request = new Uint8Array(2 ** 24)
  for (let n = 0; n < request.length; n += 4096) request[n] = n >>> 12
  const [reply, small] = await Promise.all([client.call(request), client.call(Uint8Array.of(1))])
  t.is(Buffer.compare(reply, request), 0)
  t.is(small[0], 1)
  const into = new Uint8Array(request.length)
  const given = await client.call(request, { into })
  t.is(given.buffer, into.buffer)
  t.is(Buffer.compare(into, request), 0)
  t.is(await codeOf(() => client.call(new Uint8Array(2 ** 25 + 1))), 'ERR_RINGBELL_MESSAGE_TOO_LARGE')
  const control = new AbortController()
  const aborted = codeOf(() => client.call(request, { signal: control.signal }))
  setImmediate(() => control.abort())
  t.is(await aborted, 'ABORT_ERR')
  t.is((await client.call(Uint8Array.of(2)))[0], 2)
})

test('a message over maxMessage fails at its sender, even if it fits', async (t) => {
  const bus = await place(t).bus()
  const server = await bus.serve(
    'small',
    { maxMessage: 1000 },
    async (request) => new Uint8Array(2 * request.byteLength),
  )
  const client = await bus.connect('small', { maxMessage: 500 })
  t.is((await client.call(new Uint8Array(250))).byteLength, 500)
  t.is(await codeOf(() => client.call(new Uint8Array(251))), 'ERR_RINGBELL_MESSAGE_TOO_LARGE')
  t.is(await codeOf(() => client.call(new Uint8Array(1001))), 'ERR_RINGBELL_MESSAGE_TOO_LARGE')
  const told = once(server, 'failed')
  const connection = await client.connected()
  t.true(connection.send(new Uint8Array(1001)))
  const [error] = (await told) as [RingbellError]
  t.is(error.code, 'ERR_RINGBELL_MESSAGE_TOO_LARGE')
  t.is((await client.call(new Uint8Array(1))).byteLength, 2)
  // Dropping them costs their sender no credit, whichever way they come: this is several times the window.
  const heard = (server.connections[0] as Connection).receive()
  for (let n = 0; n < 40; n++) await connection.write(new Uint8Array(n % 2 === 0 ? 20_000 : 50_000))
  await connection.write(Uint8Array.of(7))
  t.deepEqual([...(await heard)], [7])
})

test('an error larger than maxMessage still reaches the caller', async (t) => {
  const bus = await place(t).bus()
  await bus.serve('curt', {}, async () => {
    throw new Error('much longer than the eight bytes that are taken')
  })
  const client = await bus.connect('curt', { maxMessage: 8 })
  t.is((await t.throwsAsync(client.call(new Uint8Array(1)))).name, 'RemoteError')
})

test('a call that a closed server did not take was not sent', async (t) => {
  const bus = await place(t).bus()
  const server = await bus.serve('gone', {}, async (request) => request)
  const client = await bus.connect('gone', { acquire: withoutMemory ? 'stream' : 'handshake' })
  await client.call(new Uint8Array(1))
  await server.close()
  // A client that has noticed already waits for another server, as it does for a first one.
  const code = await codeOf(() => client.call(new Uint8Array(1), { timeout: 500 }))
  const expected = ['ERR_RINGBELL_NOT_SENT', 'ERR_RINGBELL_TIMEOUT']
  t.true([...expected, ...(withoutMemory ? ['ERR_RINGBELL_OUTCOME_UNKNOWN'] : [])].includes(code ?? ''), code)
  await bus.serve('other', { codec: 'json' }, async (request) => request)
  const stranger = await bus.connect('other', { timeout: 50 })
  await once(stranger, 'failed')
  const error = await t.throwsAsync(stranger.call(new Uint8Array(1)), { code: 'ERR_RINGBELL_TIMEOUT' })
  t.regex(error.message, /no server is connected \(.*codec.*json/)
})

test('waiting for the wrong kind of service is explained at the timeout', async (t) => {
  const bus = await place(t).bus()
  await bus.publisher('ticks')
  const server = await bus.serve('echo', {}, async (request) => request)
  const client = await bus.connect('ticks')
  const isTopic = new RegExp(`process ${process.pid} announces 'ticks' as a topic, and not as a server`)
  const failure = async (wait: Promise<unknown>): Promise<string> => wait.then(String, (error: Error) => error.message)
  const told = async (): Promise<string[]> => [
    await failure(client.call(new Uint8Array(1), { timeout: 10 })),
    await failure(client.connected({ signal: AbortSignal.timeout(10) })),
  ]
  // The client hears of others a moment after it was made.
  let messages = await told()
  while (!messages.every((message) => isTopic.test(message))) messages = await told()
  const subscriber = await bus.subscriber('echo')
  const attached = (): Promise<unknown> => subscriber.attached({ signal: AbortSignal.timeout(10) })
  t.regex(
    (await t.throwsAsync(attached(), { name: 'AbortError' })).message,
    new RegExp(`process ${process.pid} announces 'echo' as a server, and not as a topic`),
  )
  await server.close()
  t.is((await t.throwsAsync(attached())).message, 'The operation was aborted')
})
