/**
 * Servers and queues for other users, with real ones. What hostile clients can do is tried in
 * crates/core/src/channel/tests/others.rs.
 */
import { once } from 'node:events'
import { chmodSync, closeSync, mkdirSync, openSync, readSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import type { Connection } from 'ringbell'
import { asRoot, GUEST, STRANGER } from '../helpers/as-root.js'
import { peer, type Peer } from '../helpers/peer.js'
import { codeOf, place, type Place, until } from '../helpers/place.js'
import { rungs } from '../helpers/rungs.js'

/** How connections come about here. */
const way = rungs.includes('handshake') ? 'handshake' : 'stream'

interface Request {
  op: 'echo' | 'count'
  value?: unknown
  to?: number
}

function answer({ op, value, to = 0 }: Request): unknown {
  if (op === 'echo') return { value }
  return (async function* () {
    for (let n = 0; n < to; n++) yield n
  })()
}

/** A place that others can enter, with a folder that they can write to. */
function openPlace(t: ExecutionContext): Place & { folder: string } {
  const at = place(t)
  chmodSync(at.path, 0o755)
  const folder = join(at.path, '.folder')
  mkdirSync(folder)
  chmodSync(folder, 0o777)
  at.onEnd(async () => (await import('node:fs')).rmSync(folder, { recursive: true }))
  return { ...at, folder }
}

const as = (uid: number): { env: NodeJS.ProcessEnv } => ({ env: { RINGBELL_TEST_UID: String(uid) } })

async function done(visitor: Peer, what: string, how: Record<string, unknown> = {}): Promise<unknown> {
  visitor.ask(what, how)
  return (await visitor.tells(`${what} done`))['result']
}

asRoot('calls, streams and large messages between two sleeping users', async (t) => {
  const at = openPlace(t)
  const bus = await at.bus()
  const server = await bus.serve<Request, unknown>(
    'calls',
    { codec: 'json', wait: 'sleep', access: { uids: [GUEST] } },
    answer,
  )
  t.deepEqual(server.service.access, { mode: '0666', uids: [GUEST], gids: [] })
  const connected = once(server, 'connected') as Promise<[Connection]>
  const visitor = peer(at, 'visit.mjs', ['calls', at.folder], as(GUEST))
  const [connection] = await connected
  t.is(connection.peer.uid, GUEST)
  t.is(connection.rung, way)
  t.is(await done(visitor, 'calls', { count: 1000 }), 1000)
  t.is(await done(visitor, 'stream', { to: 5000 }), 5000)
  t.is(await done(visitor, 'large', { length: 2 ** 20 }), 2 ** 20)
  const own = await bus.connect<Request, unknown>('calls', { codec: 'json' })
  t.deepEqual(await own.call({ op: 'echo', value: 7 }), { value: 7 })
  const sizes = (server.stats().core['connections'] as { uid: number; receiveCapacity: number }[]).map(
    ({ uid, receiveCapacity }) => [uid, receiveCapacity],
  )
  t.deepEqual(sizes, [
    [GUEST, 8192],
    [0, 65_536],
  ])
  const gone = once(server, 'disconnected')
  visitor.kill()
  t.is((await gone)[1], 'died')
  t.deepEqual(await own.call({ op: 'echo', value: 8 }), { value: 8 })
})

asRoot('descriptors pass between users, and outlive their sender', async (t) => {
  const at = openPlace(t)
  const bus = await at.bus()
  const server = await bus.serve<Request, unknown>('calls', { codec: 'json', access: { uids: [GUEST] } }, answer)
  const connected = once(server, 'connected') as Promise<[Connection]>
  const visitor = peer(at, 'visit.mjs', ['calls', at.folder], as(GUEST))
  const [connection] = await connected
  // What that user could not open by itself.
  const secret = join(at.folder, 'secret')
  writeFileSync(secret, 'for your eyes', { mode: 0o600 })
  const fd = openSync(secret, 'r')
  await connection.sendFds(Buffer.from('read this'), [fd])
  closeSync(fd)
  t.deepEqual(await done(visitor, 'take'), { data: 'read this', texts: ['for your eyes'] })
  const given = async (): Promise<void> => {
    const { data, fds } = await connection.receiveFds()
    t.is(Buffer.from(data).toString(), 'from a guest')
    const text = Buffer.alloc(6)
    for (const one of fds) {
      readSync(one, text, 0, 6, 0)
      t.is(text.toString(), 'a gift')
      closeSync(one)
    }
    t.is(fds.length, 2)
  }
  const waiting = given()
  await done(visitor, 'give')
  await waiting
  // Taken only once its sender is gone.
  const gone = once(server, 'disconnected')
  await done(visitor, 'give')
  await done(visitor, 'leave')
  await gone
  await given()
})

asRoot('a user without access is refused', async (t) => {
  const at = openPlace(t)
  const bus = await at.bus()
  const named = await bus.serve('named', { codec: 'json', access: { uids: [GUEST] } }, answer)
  const closed = await bus.serve('closed', { codec: 'json' }, answer)
  for (const [uid, service, reason] of [
    [STRANGER, 'named', /NO_PERMISSION/],
    [GUEST, 'closed', /EACCES/],
  ] as const) {
    // Whether somebody may read the record is the umask's matter there; here the socket is what is asked for.
    chmodSync(join(at.path, `closed@${closed.service.id}.json`), 0o644)
    const stranger = peer(at, 'visit.mjs', [service], as(uid))
    const { code, message } = await stranger.tells('failed')
    t.is(code, 'ERR_RINGBELL_ACQUIRE')
    t.regex(String(message), reason)
  }
  t.is(named.stats().accepted + closed.stats().accepted, 0)
})

asRoot('root calls a server of another user, and rings no doorbell', async (t) => {
  const at = place(t)
  chmodSync(at.path, 0o1777)
  const server = peer(at, 'call-server.mjs', ['calls'], as(GUEST))
  await server.tells('ready')
  const bus = await at.bus({ allowSticky: true, trustedUids: [GUEST] })
  const client = await bus.connect<object, { value: number }>('calls', { codec: 'json', wait: 'sleep' })
  const { rung, peer: there } = await client.connected()
  t.deepEqual([rung, there.uid], [way, GUEST])
  for (let value = 0; value < 300; value++) t.is((await client.call({ op: 'echo', value })).value, value)
  server.ask('close', { grace: 1000 })
  await server.end
  await until(() => client.connections.length === 0)
})

asRoot('a queue gives its jobs to workers of other users', async (t) => {
  const at = openPlace(t)
  const bus = await at.bus()
  const queue = await bus.queue<object>('jobs', { codec: 'json', access: { uids: [GUEST] } })
  const worker = peer(at, 'work.mjs', ['jobs'], as(GUEST))
  for (let value = 0; value < 100; value++) queue.push({ value })
  await queue.drained()
  t.is((await worker.tells('done'))['redelivered'], false)
  t.is(queue.stats().acknowledged, 100)
})

test('access options apply to channels; options of topics are refused', async (t) => {
  const bus = await place(t).bus()
  const group = process.getgid?.() ?? 0
  const mode = (name: string): number => statSync(join(bus.path, name)).mode & 0o777
  const { service } = await bus.serve('calls', { access: { group } }, () => {})
  t.is(mode(`calls@${service.id}.json`), 0o640)
  t.is(mode(`${service.id}.sock`), 0o660)
  t.is(service.access?.group, group)
  for (const access of [{}, { uids: [1], maxGuests: 2 }, { uids: [1], evictAfter: 5 }, { uids: [65_534] }])
    t.is(await codeOf(() => bus.serve('wrong', { access }, () => {})), 'ERR_RINGBELL_INVALID_OPTION')
})

test('rings are as large as both sides agree', async (t) => {
  const bus = await place(t).bus()
  const server = await bus.serve('calls', { capacity: 16_384 }, (request) => request)
  for (const [options, sizes] of [
    [{}, [16_384, 16_384]],
    [{ sendCapacity: 4096 }, [4096, 16_384]],
    [{ receiveCapacity: 8192 }, [16_384, 8192]],
    [{ sendCapacity: 2 ** 20 }, [16_384, 16_384]],
  ] as const) {
    const client = await bus.connect('calls', options)
    t.is((await client.call(new Uint8Array(100_000))).length, 100_000)
    const [connection] = client.stats().core['connections'] as [{ sendCapacity: number; receiveCapacity: number }]
    t.deepEqual([connection.sendCapacity, connection.receiveCapacity], [...sizes])
    await client.close()
  }
  await server.close()
  t.is(await codeOf(() => bus.connect('calls', { sendCapacity: 5000 })), 'ERR_RINGBELL_INVALID_OPTION')
})
