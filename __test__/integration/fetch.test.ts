/** Requests to the names of services: routing, failover where nothing was sent, and what is told where nobody answers. */
import { once } from 'node:events'
import { createServer, type Server } from 'node:http'
import { createServer as createNetServer } from 'node:net'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { type Announced, type Bus, listenUnix } from 'ringbell'
import { BusDispatcher, type BusDispatcherOptions } from 'ringbell/fetch'
import { type Dispatcher, fetch, request } from 'undici'
import { codeOf, place, type Place, until } from '../helpers/place.js'
import { folder } from '../helpers/scratch.js'

interface Instance {
  readonly server: Server
  readonly announced: Announced
  requests: number
}

/** An instance that answers with its name, and counts. It is announced by a bus of its own. */
async function instance(t: ExecutionContext, at: Place, name: string, text: string): Promise<Instance> {
  const server = createServer((incoming, response) => {
    one.requests++
    let body = ''
    incoming.on('data', (chunk) => (body += String(chunk))).on('end', () => response.end(text + body))
  })
  await listenUnix(server, join(folder(t), 'http.sock'))
  at.onEnd(() => void (server.closeAllConnections(), server.close()))
  const announced = await (await at.bus()).announce(name, { endpoints: { http: server } })
  const one: Instance = { server, announced, requests: 0 }
  return one
}

function dispatcherOf(at: Place, bus: Bus, options?: BusDispatcherOptions): BusDispatcher {
  const dispatcher = new BusDispatcher(bus, options)
  at.onEnd(() => dispatcher.destroy())
  return dispatcher
}

async function texts(dispatcher: BusDispatcher, count: number): Promise<string[]> {
  const all: string[] = []
  for (let n = 0; n < count; n++) all.push(await (await fetch('http://api/path', { dispatcher })).text())
  return all
}

test('requests go to one instance after the other, with their bodies', async (t) => {
  const at = place(t)
  const bus = await at.bus()
  await instance(t, at, 'api', 'one')
  await instance(t, at, 'api', 'two')
  await until(() => bus.endpoints('api').length === 2)
  const dispatcher = dispatcherOf(at, bus)
  t.deepEqual((await texts(dispatcher, 4)).sort(), ['one', 'one', 'two', 'two'])
  const answer = await fetch('http://api/', { method: 'POST', body: ' and more', dispatcher })
  t.regex(await answer.text(), /^(one|two) and more$/)
  const { body } = await request('http://api/', { dispatcher })
  t.regex(await body.text(), /^(one|two)$/)
  const first = dispatcherOf(at, bus, { route: 'first' })
  t.is(new Set(await texts(first, 3)).size, 1)
  await first.close()
  t.is(new Set(await texts(dispatcherOf(at, bus, { route: 'least-busy' }), 2)).size, 2)
})

test('the fetch of Node takes it, too', async (t) => {
  const at = place(t)
  const bus = await at.bus()
  await instance(t, at, 'api', 'hello')
  const options = { dispatcher: dispatcherOf(at, bus) } as object
  t.is(await (await globalThis.fetch('http://api/', options)).text(), 'hello')
})

test('an instance on a port is reached, and asked by the name of the service', async (t) => {
  const at = place(t)
  const bus = await at.bus()
  const server = createServer(({ headers }, response) => void response.end(headers.host)).listen(0, '127.0.0.1')
  at.onEnd(() => void (server.closeAllConnections(), server.close()))
  await bus.announce('api', { endpoints: { http: server } })
  t.deepEqual(await texts(dispatcherOf(at, bus), 2), ['api', 'api'])
})

test('an instance that refuses is passed over: nothing was sent, and no request fails', async (t) => {
  const at = place(t)
  const bus = await at.bus()
  const alive = await instance(t, at, 'api', 'alive')
  const other = await at.bus()
  const gone = join(folder(t), 'nobody.sock')
  await other.announce('api', { endpoints: { http: gone } })
  await other.announce('api', { endpoints: { http: 'http://127.0.0.1:1' } })
  await until(() => bus.endpoints('api').length === 3)
  const dispatcher = dispatcherOf(at, bus)
  const post = async (): Promise<string> =>
    (await fetch('http://api/', { method: 'POST', body: '!', dispatcher })).text()
  for (let n = 0; n < 6; n++) t.is(await post(), 'alive!')
  t.is(alive.requests, 6, 'each request is sent once')
  // Once it accepts connections it gets requests again.
  const back = createServer((_, response) => void response.end('back'))
  await listenUnix(back, gone)
  at.onEnd(() => void (back.closeAllConnections(), back.close()))
  await until(async () => (await post()) === 'back')
})

test('a request that was sent is not sent again', async (t) => {
  const at = place(t)
  const bus = await at.bus()
  let connections = 0
  const server = createNetServer((socket) => {
    connections++
    socket.once('data', () => socket.destroy())
  })
  await listenUnix(server, join(folder(t), 'http.sock'))
  at.onEnd(() => server.close())
  await bus.announce('api', { endpoints: { http: server } })
  const dispatcher = dispatcherOf(at, bus)
  await t.throwsAsync(() => fetch('http://api/', { method: 'POST', body: 'once', dispatcher }), {
    message: 'fetch failed',
  })
  t.is(connections, 1)
})

test('an endpoint that accepts no connection in time is passed over, and the last error is told', async (t) => {
  const at = place(t)
  const bus = await at.bus()
  await bus.announce('api', { endpoints: { http: join(folder(t), 'nobody.sock') } })
  const dispatcher = dispatcherOf(at, bus)
  const error = await t.throwsAsync(() => fetch('http://api/', { dispatcher }), { message: 'fetch failed' })
  t.is((error?.cause as { code?: string } | undefined)?.code, 'ENOENT')
  await instance(t, at, 'api', 'here')
  await until(() => bus.endpoints('api').length === 2)
  t.deepEqual(await texts(dispatcher, 3), ['here', 'here', 'here'])
})

test('a dispatcher that closes can be destroyed: requests that hang end', async (t) => {
  const at = place(t)
  const bus = await at.bus()
  const server = createServer()
  const asked = once(server, 'request')
  await listenUnix(server, join(folder(t), 'http.sock'))
  at.onEnd(() => void (server.closeAllConnections(), server.close()))
  await bus.announce('api', { endpoints: { http: server } })
  const dispatcher = new BusDispatcher(bus)
  const hangs = t.throwsAsync(() => request('http://api/', { dispatcher }))
  await asked
  const closing = dispatcher.close()
  await dispatcher.destroy()
  await hangs
  await closing
})

test('names that nobody has, and hosts that are none', async (t) => {
  const at = place(t)
  const bus = await at.bus()
  const dispatcher = dispatcherOf(at, bus)
  t.is(await codeOf(() => request('http://nobody/', { dispatcher })), 'ERR_RINGBELL_NOT_FOUND')
  const error = await t.throwsAsync(() => fetch('http://nobody/', { dispatcher }), { message: 'fetch failed' })
  t.is((error?.cause as { code?: string } | undefined)?.code, 'ERR_RINGBELL_NOT_FOUND')
  for (const url of ['http://api:81/', 'http://example.org/', 'http://[::1]/'])
    t.is(await codeOf(() => request(url, { dispatcher })), 'ERR_RINGBELL_INVALID_OPTION', url)
  const server = createServer((_, response) => void response.end('outside')).listen(0, '127.0.0.1')
  at.onEnd(() => void (server.closeAllConnections(), server.close()))
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  const { Agent } = await import('undici')
  const mixed = dispatcherOf(at, bus, { fallback: new Agent() })
  t.is(await (await fetch(`http://127.0.0.1:${port}/`, { dispatcher: mixed })).text(), 'outside')
  const hosts: unknown[] = []
  const dispatch: Dispatcher['dispatch'] = ({ origin }) => {
    hosts.push(String(origin))
    throw new Error('outside')
  }
  const refusing = dispatcherOf(at, bus, { fallback: { dispatch } as Dispatcher })
  // No service can have such names.
  const strange = ['http://example.org.', 'http://a..b', `http://${'a'.repeat(63)}.${'b.'.repeat(80)}c`]
  for (const url of strange) await t.throwsAsync(() => request(url, { dispatcher: refusing }), { message: 'outside' })
  t.deepEqual(hosts, strange)
  await dispatcher.close()
  t.is(await codeOf(() => request('http://api/', { dispatcher })), 'ERR_RINGBELL_CLOSED')
  t.throws(() => new BusDispatcher(bus, { route: 'primary' as never }), { code: 'ERR_RINGBELL_INVALID_OPTION' })
})

test('instances come and go, and no request fails', async (t) => {
  const at = place(t)
  const bus = await at.bus()
  await instance(t, at, 'api', 'stays')
  const dispatcher = dispatcherOf(at, bus)
  for (let round = 0; round < 5; round++) {
    const coming = await instance(t, at, 'api', 'comes')
    await until(async () => (await texts(dispatcher, 1))[0] === 'comes')
    // It says that it goes, and only then it does.
    await coming.announced.close()
    await until(() => bus.endpoints('api').length === 1)
    coming.server.closeAllConnections()
    coming.server.close()
    t.deepEqual(await texts(dispatcher, 3), ['stays', 'stays', 'stays'])
  }
})
