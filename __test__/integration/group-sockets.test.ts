/** Listening sockets that the members of a group share: one opens it, the others get it, and the primary accepts. */
import { once } from 'node:events'
import { readdirSync, statSync, symlinkSync } from 'node:fs'
import { createServer as createHttp, get, type IncomingMessage, type ServerResponse } from 'node:http'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { constants } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import type { Bus, Member, SharedServer } from 'ringbell'
import { Child } from '../helpers/child.js'
import { codeOf, place, until } from '../helpers/place.js'
import { folder } from '../helpers/scratch.js'

interface Instance {
  readonly member: Member
  readonly server: Server
  readonly shared: SharedServer
}

/** Greets each connection with its name, and lets it be. */
async function instance(bus: Bus, name: string, address: object = { host: '127.0.0.1', port: 0 }): Promise<Instance> {
  const member = await bus.join('price', { grace: 30_000 })
  const server = createServer((socket) => socket.on('error', () => {}).write(name))
  return { member, server, shared: await member.listen(server, address) }
}

function dial(port = 0): Socket {
  return connect({ host: '127.0.0.1', port }).on('error', () => {})
}

async function greeting(socket: Socket): Promise<string> {
  const [data] = (await once(socket, 'data')) as [Buffer]
  return data.toString()
}

test('the primary accepts, and the next one goes on with what waits', async (t) => {
  const at = place(t)
  const holder = await at.bus()
  const claim = await holder.claim('price')
  const one = await instance(await at.bus(), 'one')
  const { port } = one.shared
  t.true((port ?? 0) > 0)
  t.deepEqual([one.shared.accepting, one.server.listening], [false, false])
  t.deepEqual(one.member.service.metadata['sockets'], ['tcp:127.0.0.1:0'])
  // It is not refused, although nobody accepts.
  const early = dial(port)
  await once(early, 'connect')
  await claim.release()
  t.is(await greeting(early), 'one')
  const other = await instance(await at.bus(), 'other')
  t.is(other.shared.port, port, 'it is the same socket')
  t.false(other.shared.accepting)
  const down = one.member.stepDown()
  t.false(one.shared.accepting)
  const late = dial(port)
  await once(late, 'connect')
  t.is(other.member.role, 'standby', 'a connection is still open')
  early.destroy()
  await down
  t.is(await greeting(late), 'other')
  // The first one has gone, and the socket lives.
  late.destroy()
  await one.member.leave()
  await other.member.stepDown()
  const last = dial(port)
  t.is(await greeting(last), 'other')
  last.destroy()
  await other.member.leave()
  const refused = dial(port)
  const [error] = (await once(refused, 'error')) as [NodeJS.ErrnoException]
  t.is(error.code, 'ECONNREFUSED')
})

test('what has not ended when the grace is over is cut', async (t) => {
  const at = place(t)
  const one = await instance(await at.bus(), 'one')
  await one.member.primary
  const socket = dial(one.shared.port)
  t.is(await greeting(socket), 'one')
  await one.member.stepDown({ grace: 5 })
  await once(socket.resume(), 'close')
})

test('a request is answered before another member is primary, and its connection does not stay', async (t) => {
  const at = place(t)
  const answers: (() => void)[] = []
  const web = async (bus: Bus): Promise<Member> => {
    const member = await bus.join('price', { grace: 30_000 })
    const server = createHttp((_, response: ServerResponse) => answers.push(() => void response.end('well')))
    port = (await member.listen(server, { host: '127.0.0.1', port: 0 })).port
    return member
  }
  let port: number | undefined
  const one = await web(await at.bus())
  await one.primary
  const other = await web(await at.bus())
  const request = get({ host: '127.0.0.1', port, headers: { connection: 'keep-alive' } })
  await until(() => answers.length === 1)
  const down = one.stepDown()
  t.is(other.role, 'standby')
  answers.pop()?.()
  const [response] = (await once(request, 'response')) as [IncomingMessage]
  t.is(response.headers.connection, 'close')
  response.resume()
  await down
  await other.primary
  await one.leave()
})

test('with accept: always every member accepts until it drains', async (t) => {
  const at = place(t)
  const address = { host: '127.0.0.1', port: 0, accept: 'always' }
  const one = await instance(await at.bus(), 'one', address)
  const other = await instance(await at.bus(), 'other', address)
  await Promise.race([one.member.primary, other.member.primary])
  t.deepEqual([one.shared.accepting, other.shared.accepting], [true, true])
  await one.member.stepDown()
  t.true(one.shared.accepting)
  await one.member.drain()
  t.false(one.shared.accepting)
  const socket = dial(other.shared.port)
  t.is(await greeting(socket), 'other')
  socket.destroy()
  await other.shared.close()
  t.is(other.member.service.metadata['sockets'], undefined)
})

test('a Unix socket that a dead process left is taken over, and one that is in use is not', async (t) => {
  const at = place(t)
  const path = join(folder(t), 'socket')
  const script = `require('net').createServer().listen(process.argv[1], () => console.log('listens'))`
  const dead = new Child(process.execPath, ['-e', script, path])
  await dead.shows('listens')
  await dead.ended()
  const one = await instance(await at.bus(), 'one', { path })
  t.is(one.shared.path, path)
  await one.member.primary
  const socket = connect(path)
  t.is(await greeting(socket), 'one')
  socket.destroy()
  const stranger = await (await at.bus()).join('other')
  const error = await t.throwsAsync<NodeJS.ErrnoException>(stranger.listen(createServer(), { path }))
  t.is(error?.code, 'ERR_RINGBELL_SYSTEM')
  t.is(error?.syscall, 'bind')
})

test('a Unix socket has exactly its mode, and replaces sockets alone', async (t) => {
  const at = place(t)
  const root = folder(t)
  const [path, target] = [join(root, 'socket'), join(root, 'target')]
  const one = await instance(await at.bus(), 'one', { path, mode: 0o622 })
  t.is(statSync(path).mode & 0o777, 0o622)
  await one.member.primary
  // The one that has opened it has gone; the file stays for the others.
  const other = await instance(await at.bus(), 'other', { path })
  await one.member.leave()
  t.true(statSync(path).isSocket())
  await other.member.primary
  const socket = connect(path)
  t.is(await greeting(socket), 'other')
  socket.destroy()
  await other.member.leave()
  // What leads to a stale socket is left alone.
  symlinkSync(path, target)
  const member = await (await at.bus()).join('other')
  const error = await t.throwsAsync<NodeJS.ErrnoException>(member.listen(createServer(), { path: target }))
  t.is(error?.errno, -constants.errno.EEXIST)
  await member.listen(createServer(), { path })
  t.is(statSync(path).mode & 0o777, 0o600)
})

test('a socket that the process has already is used as it is', async (t) => {
  const at = place(t)
  const holder = createServer().listen(0, '127.0.0.1')
  await once(holder, 'listening')
  const { port } = holder.address() as { port: number }
  // Node has no public word for the descriptor of a server.
  const { fd } = (holder as unknown as { _handle: { fd: number } })._handle
  const one = await instance(await at.bus(), 'one', { fd })
  holder.close()
  await one.member.primary
  const socket = dial(port)
  t.is(await greeting(socket), 'one')
  socket.destroy()
  t.is(one.shared.port, port)
})

test('members that begin together open one socket, and leave no descriptor', async (t) => {
  const at = place(t)
  const bus = await at.bus()
  const sockets = (): number => readdirSync('/proc/self/fd').length
  bus.claims.query('price')
  const buses = [await at.bus(), await at.bus(), await at.bus(), await at.bus()]
  const before = sockets()
  const all = await Promise.all(buses.map((one, index) => instance(one, String(index))))
  t.is(new Set(all.map(({ shared }) => shared.port)).size, 1)
  for (const { member } of all) await member.leave()
  await until(() => sockets() <= before)
})

test('what cannot listen is refused', async (t) => {
  const at = place(t)
  const bus = await at.bus()
  const member = await bus.join('price')
  const listen = (server: unknown, options: unknown): Promise<string | undefined> =>
    codeOf(() => member.listen(server as Server, options as object))
  for (const options of [
    {},
    { port: 1, mode: 0o600 },
    { port: 1, path: '/x' },
    { port: 65_536 },
    { path: '/x', host: 'y' },
    { port: 1, x: 1 },
  ])
    t.is(await listen(createServer(), options), 'ERR_RINGBELL_INVALID_OPTION')
  t.is(await listen({}, { port: 0 }), 'ERR_RINGBELL_INVALID_OPTION')
  const taken = createServer().listen(0, '127.0.0.1')
  await once(taken, 'listening')
  t.is(await listen(taken, { port: 0 }), 'ERR_RINGBELL_INVALID_OPTION')
  const { port } = taken.address() as { port: number }
  const error = await t.throwsAsync<NodeJS.ErrnoException>(member.listen(createServer(), { port, host: '127.0.0.1' }))
  t.is(error?.code, 'ERR_RINGBELL_SYSTEM')
  t.regex(error?.message ?? '', /EADDRINUSE/)
  taken.close()
  const server = createServer()
  await member.listen(server, { port: 0, host: '127.0.0.1' })
  t.is(await listen(createServer(), { port: 0, host: '127.0.0.1' }), 'ERR_RINGBELL_INVALID_OPTION')
  await member.leave()
  t.is(await listen(createServer(), { port: 0 }), 'ERR_RINGBELL_CLOSED')
})
