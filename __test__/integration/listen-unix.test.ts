/** Unix sockets that are bound safely: modes, stale ones, two starters, long paths, abstract names, and who may connect. */
import { once } from 'node:events'
import { createServer as createHttpServer } from 'node:http'
import { existsSync, readdirSync, statSync } from 'node:fs'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { constants } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import test, { type ExecutionContext } from 'ava'
import { canConnect, listenUnix, type ListenUnixOptions, peerOf, type SocketPeer } from 'ringbell'
import { asRoot, GUEST, STRANGER } from '../helpers/as-root.js'
import { Child } from '../helpers/child.js'
import { peer } from '../helpers/peer.js'
import { codeOf, place } from '../helpers/place.js'
import { folder } from '../helpers/scratch.js'

const { EADDRINUSE } = constants.errno
const CLUSTER = fileURLToPath(new URL('../fixtures/cluster.mjs', import.meta.url))

/** Node 20 fills shorter names with NULs when it connects. */
function abstract(what: string): string {
  return `ringbell-${what}-${process.pid}`.padEnd(107, '.')
}

async function listening(t: ExecutionContext, path: string, options?: ListenUnixOptions): Promise<Server> {
  // A connect test has gone before it can be greeted.
  const server = createServer((socket) => void socket.on('error', () => {}).end('hello'))
  await listenUnix(server, path, options)
  t.teardown(() => server.close())
  return server
}

/** What comes from a socket until its end; an error of the connection is the end, too. */
async function received(path: string): Promise<string> {
  const socket = connect(path)
  let text = ''
  socket.on('data', (chunk) => (text += String(chunk))).on('error', () => {})
  await once(socket, 'close')
  return text
}

test('the file has exactly its mode, and goes when the server has closed', async (t) => {
  const path = join(folder(t), 'api.sock')
  for (const [options, mode] of [
    [{}, 0o600],
    [{ mode: 0o666 }, 0o666],
    [{ mode: 0o620 }, 0o620],
  ] as const) {
    const server = await listening(t, path, options)
    t.is(statSync(path).mode & 0o777, mode)
    t.is(await received(path), 'hello')
    server.close()
    await once(server, 'close')
    t.false(existsSync(path))
  }
  t.deepEqual(readdirSync(join(path, '..')), ['.api.sock.lock'])
})

test('of two servers on one path the second one fails, and hears why', async (t) => {
  const path = join(folder(t), 'api.sock')
  await listening(t, path)
  const error = await t.throwsAsync(() => listenUnix(createServer(), path), {
    code: 'ERR_RINGBELL_SYSTEM',
    message: /Another process listens/,
  })
  t.is((error as { errno?: number }).errno, -EADDRINUSE)
  t.is(await received(path), 'hello')
  // Also one that was bound in another way, and has no lock.
  const plain = join(path, '../plain.sock')
  const server = createServer().listen(plain)
  t.teardown(() => server.close())
  await once(server, 'listening')
  await t.throwsAsync(() => listenUnix(createServer(), plain), { message: /Another process listens/ })
  t.true(await canConnect(plain))
})

test('of many that start at once one listens, and after its death another one does', async (t) => {
  const at = place(t)
  const path = join(folder(t), 'api.sock')
  const all = Array.from({ length: 4 }, () => peer(at, 'listen.mjs', [path]))
  const told = await Promise.all(all.map((one) => Promise.race([one.tells('listening'), one.tells('failed')])))
  t.is(told.filter(({ what }) => what === 'listening').length, 1)
  for (const { errno } of told.filter(({ what }) => what === 'failed')) t.is(errno, -EADDRINUSE)
  const winner = all[told.findIndex(({ what }) => what === 'listening')]
  await winner?.ended()
  t.true(existsSync(path), 'a killed process leaves its socket')
  t.false(await canConnect(path))
  await listening(t, path)
  t.is(await received(path), 'hello')
})

test('an abstract name is taken once, and gone with its server', async (t) => {
  const name = abstract('test')
  const server = await listening(t, name, { abstract: true, access: {} })
  t.is(await received(`\0${name}`), 'hello', 'our own user may')
  t.true(await canConnect(`unix:@${name}`))
  await t.throwsAsync(() => listenUnix(createServer(), name, { abstract: true }), {
    message: /Another process listens on @/,
  })
  server.close()
  await once(server, 'close')
  t.false(await canConnect(`unix:@${name}`))
})

test('a server knows who is at the other end', async (t) => {
  const path = join(folder(t), 'api.sock')
  const seen: SocketPeer[] = []
  const server = createHttpServer((request, response) => {
    seen.push(peerOf(request.socket))
    response.end()
  })
  await listenUnix(server, path)
  t.teardown(() => server.close())
  const socket = connect(path)
  socket.end('GET / HTTP/1.1\r\nhost: api\r\nconnection: close\r\n\r\n')
  await once(socket.resume(), 'close')
  t.is(seen[0]?.pid, process.pid)
  t.is(seen[0]?.uid, process.getuid?.())
  t.is(await codeOf(() => peerOf(socket)), 'ERR_RINGBELL_CLOSED')
  const tcp = createServer().listen(0)
  t.teardown(() => tcp.close())
  await once(tcp, 'listening')
  const [[accepted]] = await Promise.all([
    once(tcp, 'connection'),
    once(connect((tcp.address() as { port: number }).port), 'connect'),
  ])
  t.is(await codeOf(() => peerOf(accepted as never)), 'ERR_RINGBELL_SYSTEM')
  ;(accepted as { destroy(): void }).destroy()
})

asRoot('only the users that are named may connect', async (t) => {
  const at = place(t)
  const name = abstract('access')
  const server = await listening(t, name, { abstract: true, access: { uids: [GUEST] } })
  const seen: number[] = []
  // One that is refused has no peer any more, and `peerOf` would throw.
  server.prependListener('connection', (socket) => void seen.push(peerOf(socket).uid))
  const answers = async (uid: number): Promise<unknown> => {
    const visitor = peer(at, 'connect.mjs', [name], { env: { RINGBELL_TEST_UID: String(uid) } })
    return (await visitor.tells('received'))['text']
  }
  t.is(await answers(GUEST), 'hello')
  t.is(await answers(STRANGER), '')
  t.deepEqual(seen, [GUEST])
})

test('a server that is used again is as it was', async (t) => {
  const path = join(folder(t), 'api.sock')
  const server = createServer()
  const bus = await place(t).bus()
  const address = async (): Promise<string | undefined> => {
    await using announced = await bus.announce('api', { endpoints: { server } })
    return announced.service.endpoints['server']
  }
  const emitOf = (): unknown => Reflect.get(server, 'emit')
  const emit = emitOf()
  for (const ended of [true, false]) {
    await listenUnix(server, path, { access: {} })
    t.not(emitOf(), emit)
    t.is(await address(), `unix:${path}`)
    const socket = connect(path)
    const [accepted] = (await once(server, 'connection')) as [Socket]
    server.close()
    if (ended) {
      socket.destroy()
      accepted.destroy()
      await once(server, 'close')
    }
    // It need not have been closed for good.
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    t.is(emitOf(), emit)
    t.regex((await address()) ?? '', /^tcp:/)
    t.false(existsSync(path))
    socket.destroy()
    accepted.destroy()
    server.close()
    await once(server, 'close')
  }
})

test('a worker of node:cluster is told that it cannot listen, before it takes anything', async (t) => {
  const at = folder(t)
  const child = new Child(process.execPath, [CLUSTER, at])
  await child.shows('\n')
  const told = JSON.parse(child.stdout.toString()) as string[]
  t.deepEqual(told, ['ERR_RINGBELL_INVALID_OPTION', 'ERR_RINGBELL_INVALID_OPTION', 'bus'])
})

test('wrong arguments are refused', async (t) => {
  const path = join(folder(t), 'api.sock')
  const listens = await listening(t, path)
  const wrong: [unknown, unknown, unknown, RegExp][] = [
    [{}, path, {}, /server/],
    [listens, path, {}, /listen already/],
    [createServer(), '', {}, /path/],
    [createServer(), `/tmp/${'n'.repeat(81)}`, {}, /80 bytes/],
    [createServer(), path, { mode: 0o1777 }, /mode/],
    [createServer(), path, { access: { uids: ['me'] } }, /access\.uids/],
    [createServer(), path, { access: { uids: [65534] } }, /access\.uids/],
    [createServer(), 'name', { abstract: true, mode: 0o600 }, /mode/],
  ]
  for (const [server, where, options, message] of wrong)
    await t.throwsAsync(() => listenUnix(server as Server, where as string, options as object), {
      code: 'ERR_RINGBELL_INVALID_OPTION',
      message,
    })
})
