/** Announced servers: when the record is there, what health checks say, and which instance `resolve` gives. */
import { once } from 'node:events'
import { createServer as createHttpServer, get, type Server as HttpServer } from 'node:http'
import { createServer, type Server } from 'node:net'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { type Bus, canConnect, listenUnix, type Target } from 'ringbell'
import { codeOf, place, type Place, until } from '../helpers/place.js'
import { folder } from '../helpers/scratch.js'

/** Closed at the end of the test. */
function closing<S extends Server>(at: Place, server: S): S {
  at.onEnd(() => server.close())
  return server
}

function http(at: Place, text: string): HttpServer {
  return closing(
    at,
    createHttpServer((_, response) => void response.setHeader('connection', 'close').end(text)),
  )
}

async function fetched(target: Target): Promise<string> {
  const request = get({ ...target, path: '/', agent: false })
  const [response] = (await once(request, 'response')) as [NodeJS.ReadableStream]
  let text = ''
  for await (const chunk of response) text += String(chunk)
  return text
}

async function health(bus: Bus, name: string, wanted: string): Promise<void> {
  await until(() => bus.services.list().some((one) => one.name === name && one.metadata['health'] === wanted))
}

test('a server is announced when it listens, and withdrawn when it has closed', async (t) => {
  const at = place(t)
  const bus = await at.bus()
  const server = http(at, 'hello')
  const announcing = bus.announce('api', { endpoints: { http: server, docs: 'https://example.org/' }, tags: ['v2'] })
  t.deepEqual(bus.services.list(), [])
  server.listen(0)
  const announced = await announcing
  const { port } = server.address() as { port: number }
  t.deepEqual(announced.service.endpoints, { http: `http://127.0.0.1:${port}`, docs: 'https://example.org/' })
  t.deepEqual(announced.service.metadata, { tags: ['v2'] })
  t.is(await fetched(bus.resolve('api')), 'hello')
  announced.update({ load: 3 })
  t.deepEqual(announced.service.metadata, { load: 3, tags: ['v2'] })
  server.close()
  await once(server, 'close')
  t.true(announced.closed)
  await until(() => bus.services.find('api') === undefined)
  t.is(await codeOf(() => bus.resolve('api')), 'ERR_RINGBELL_NOT_FOUND')
})

test('a Unix socket is announced by its own path, however long, and reached there', async (t) => {
  const at = place(t)
  const bus = await at.bus()
  const deep = join(folder(t), 'd'.repeat(120))
  mkdirSync(deep)
  const server = http(at, 'deep')
  await listenUnix(server, join(deep, 'api.sock'))
  const announced = await bus.announce('api', { endpoints: { http: server } })
  t.is(announced.service.endpoints['http'], `unix:${join(deep, 'api.sock')}`)
  t.is(await fetched(bus.resolve('api')), 'deep')
  t.true(await canConnect(join(deep, 'api.sock')))
})

test('an announcement ends with a server that fails or closes, or with the bus', async (t) => {
  const at = place(t)
  const bus = await at.bus()
  const failing = createServer()
  const failed = bus.announce('api', { endpoints: { http: failing } })
  failing.listen('/nowhere/at/all')
  t.is(await codeOf(() => failed), 'EACCES')
  const closed = createServer().listen(0)
  closed.close()
  const withdrawn = bus.announce('api', { endpoints: { http: closed } })
  t.is(await codeOf(() => withdrawn), 'ERR_RINGBELL_CLOSED')
  const never = bus.announce('api', { endpoints: { http: createServer() } })
  await bus.close()
  t.is(await codeOf(() => never), 'ERR_RINGBELL_CLOSED')
})

test('requests go to one instance after the other, and not to those that are not well', async (t) => {
  const at = place(t)
  const [bus, other] = [await at.bus(), await at.bus()]
  let well = true
  await bus.announce('api', { endpoints: { http: 'http://one:80' } })
  await other.announce('api', {
    endpoints: { http: 'http://two:80' },
    health: { check: () => well, interval: 5, failures: 2 },
  })
  await until(() => bus.endpoints('api').length === 2)
  const hosts = (): string[] => Array.from({ length: 4 }, () => (bus.resolve('api') as { host: string }).host)
  t.deepEqual(hosts().sort(), ['one', 'one', 'two', 'two'])
  t.is(new Set(Array.from({ length: 4 }, () => bus.resolve('api', 'http', { route: 'first' }))).size, 1)
  well = false
  await health(bus, 'api', 'failing')
  await until(() => bus.endpoints('api').some(({ healthy }) => !healthy))
  t.deepEqual(hosts(), ['one', 'one', 'one', 'one'])
  well = true
  await until(() => bus.endpoints('api').every(({ healthy }) => healthy))
  t.deepEqual([...new Set(hosts())].sort(), ['one', 'two'])
})

test('what cannot be resolved says what is there instead', async (t) => {
  const bus = await place(t).bus()
  await bus.announce('api', { endpoints: { admin: 'unix:/x', odd: 'words' } })
  t.throws(() => bus.resolve('api'), {
    code: 'ERR_RINGBELL_NOT_FOUND',
    message: /no endpoint 'http'; it has 'admin', 'odd'/,
  })
  t.throws(() => bus.resolve('api', 'odd'), { code: 'ERR_RINGBELL_NOT_FOUND', message: /address 'words'/ })
  t.throws(() => bus.resolve('web'), { code: 'ERR_RINGBELL_NOT_FOUND', message: /No process announces 'web'/ })
  await bus.announce('ill', { endpoints: { http: 'unix:/x' }, health: { check: () => false } })
  t.throws(() => bus.resolve('ill'), { code: 'ERR_RINGBELL_NOT_FOUND', message: /health check of every instance/ })
  t.throws(() => bus.resolve('api', '', {}), { code: 'ERR_RINGBELL_INVALID_OPTION' })
  t.throws(() => bus.resolve('a b'), { code: 'ERR_RINGBELL_INVALID_NAME' })
})

test('a health check that never answers counts as failed, and is not asked again meanwhile', async (t) => {
  const bus = await place(t).bus()
  let asked = 0
  const check = (): Promise<void> => new Promise(() => asked++)
  await bus.announce('api', { health: { check, interval: 1, timeout: 5 } })
  await health(bus, 'api', 'failing')
  let rounds = 0
  await bus.announce('slow', { health: { check: () => void rounds++, interval: 1, timeout: 5 } })
  await until(() => rounds > 5)
  t.is(asked, 1)
})

test('without a check of its own, a service is well as long as its endpoints accept connections', async (t) => {
  const at = place(t)
  const [bus, other] = [await at.bus(), await at.bus()]
  const path = join(folder(t), 'api.sock')
  const server = closing(at, createServer())
  await other.announce('api', { endpoints: { http: path, note: 'words' }, health: { interval: 5 } })
  await health(bus, 'api', 'failing')
  t.throws(() => bus.resolve('api'), { code: 'ERR_RINGBELL_NOT_FOUND' })
  await listenUnix(server, path)
  await health(bus, 'api', 'passing')
  t.deepEqual(bus.resolve('api'), { socketPath: path })
})

test('what is no endpoint, tag or health check is refused', async (t) => {
  const bus = await place(t).bus()
  const wrong: [object, RegExp][] = [
    [{ endpoints: { http: 80 } }, /endpoints/],
    [{ endpoints: createServer() }, /endpoints/],
    [{ tags: ['two words'] }, /tags/],
    [{ health: 'yes' }, /health/],
    [{ health: { interval: 0 } }, /health\.interval/],
    [{ health: { every: 5 } }, /health\.every/],
  ]
  for (const [options, message] of wrong)
    await t.throwsAsync(() => bus.announce('api', options), { code: 'ERR_RINGBELL_INVALID_OPTION', message })
})

test('the connect test knows who listens and who does not', async (t) => {
  const at = place(t)
  const path = join(folder(t), 'api.sock')
  t.false(await canConnect(path))
  const server = closing(at, createServer())
  await listenUnix(server, path)
  t.true(await canConnect(path))
  t.true(await canConnect(`unix:${path}`))
  const tcp = closing(at, createServer()).listen(0, '127.0.0.1')
  await once(tcp, 'listening')
  const { port } = tcp.address() as { port: number }
  t.true(await canConnect(`http://127.0.0.1:${port}`))
  tcp.close()
  await once(tcp, 'close')
  t.false(await canConnect(`http://127.0.0.1:${port}`))
  t.is(await codeOf(() => canConnect('words')), 'ERR_RINGBELL_INVALID_OPTION')
  t.is(await codeOf(() => canConnect(path, { signal: AbortSignal.abort() })), 'ABORT_ERR')
})

test('after the bus is closed nothing is resolved', async (t) => {
  const bus = await place(t).bus()
  await bus.announce('api', { endpoints: { http: 'unix:/x' } })
  t.deepEqual(bus.resolve('api'), { socketPath: '/x' })
  await bus.close()
  t.throws(() => bus.resolve('api'), { code: 'ERR_RINGBELL_CLOSED' })
})
