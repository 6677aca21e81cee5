/** `ringbell/tracing` with OpenTelemetry's own context manager and propagators: who handles something does so in the context of who sent it. */
import { spawnSync } from 'node:child_process'
import { cpSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { context, propagation, type TextMapPropagator, trace } from '@opentelemetry/api'
import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks'
import { CompositePropagator, W3CBaggagePropagator, W3CTraceContextPropagator } from '@opentelemetry/core'
import test from 'ava'
import { contextOf, disableTracing, enableTracing, withContextOf } from 'ringbell/tracing'
import { place, until } from '../helpers/place.js'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))

context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable())
const STANDARD = new CompositePropagator({
  propagators: [new W3CTraceContextPropagator(), new W3CBaggagePropagator()],
})
propagation.setGlobalPropagator(STANDARD)

/** Runs `body` in a trace whose id ends with this number. */
function inTrace<R>(number: number, body: () => R): R {
  const traceId = `4bf92f3577b34da6a3ce929d0e0e${String(number).padStart(4, '0')}`
  const span = trace.setSpanContext(context.active(), { traceId, spanId: '00f067aa0ba902b7', traceFlags: 1 })
  return context.with(span, body)
}

function present(): number | undefined {
  const id = trace.getSpanContext(context.active())?.traceId
  return id === undefined ? undefined : Number(id.slice(-4))
}

test.serial('calls, streams, connections and jobs are handled in the context of their senders', async (t) => {
  const bus = await place(t).bus()
  await bus.serve('here', { codec: 'json' }, async (request: unknown, { headers }) => {
    await new Promise((done) => setImmediate(done))
    return [request, present(), headers['own'] ?? null]
  })
  await bus.serve('pieces', { codec: 'json' }, async function* () {
    yield present() ?? null
  })
  const here = await bus.connect<unknown, unknown>('here', { codec: 'json' })
  const pieces = await bus.connect<null, number | null>('pieces', { codec: 'json' })
  t.deepEqual(await here.call(0), [0, null, null], 'no trace, and nothing is sent')
  const answers = await Promise.all(
    Array.from({ length: 50 }, (_, n) => inTrace(n, () => here.call(n, { headers: { own: 'x' } }))),
  )
  t.deepEqual(
    answers,
    Array.from({ length: 50 }, (_, n) => [n, n, 'x']),
  )
  for await (const piece of inTrace(7, () => pieces.stream(null))) t.is(piece, 7)

  const queue = await bus.queue<number>('jobs', { codec: 'json' })
  const ran = inTrace(8, () => queue.run(1))
  t.true(inTrace(9, () => queue.push(2)))
  const jobs: unknown[] = []
  await bus.worker<number>('jobs', { codec: 'json' }, async (job) => {
    jobs.push([job, present()])
    return present()
  })
  t.is(await ran, 8)
  await queue.drained()
  t.deepEqual(jobs, [
    [1, 8],
    [2, 9],
  ])

  const server = await bus.serve('talk', {})
  const talk = await bus.connect('talk')
  const connection = await talk.connected()
  const [other] = await until(() => (server.connections.length > 0 ? server.connections : undefined))
  inTrace(10, () => connection.send(Uint8Array.of(1)))
  for await (const message of other!.envelopes()) {
    t.is(present(), undefined)
    t.is(withContextOf(message, present), 10)
    break
  }
})

test.serial('messages of a topic carry the context, and a helper enters it', async (t) => {
  const bus = await place(t).bus()
  const publisher = await bus.publisher('news')
  const subscriber = await bus.subscriber('news')
  await subscriber.attached()
  inTrace(1, () => publisher.send(Uint8Array.of(1), { headers: { own: 'x' } }))
  await inTrace(2, () => publisher.write(Uint8Array.of(2)))
  publisher.send(Uint8Array.of(3))
  const [first, second, third] = [await subscriber.receive(), await subscriber.receive(), await subscriber.receive()]
  t.is(first.headers['own'], 'x')
  t.is(withContextOf(first, present), 1)
  t.is(withContextOf(second, present), 2)
  t.is(trace.getSpanContext(contextOf(second))?.isRemote, true)
  t.deepEqual({ ...third.headers }, {})
  t.is(withContextOf(third, present), undefined)

  disableTracing()
  t.teardown(enableTracing)
  inTrace(4, () => publisher.send(Uint8Array.of(4)))
  t.deepEqual({ ...(await subscriber.receive()).headers }, {})
})

test.serial('headers of the user come first, and what finds no room is left out', async (t) => {
  const bus = await place(t).bus()
  const publisher = await bus.publisher('news')
  const subscriber = await bus.subscriber('news')
  await subscriber.attached()
  const baggage = propagation.createBaggage({ user: { value: 'x'.repeat(3000) } })
  const active = propagation.setBaggage(context.active(), baggage)
  const send = (headers: Record<string, string>): void =>
    void inTrace(5, () =>
      context.with(propagation.setBaggage(context.active(), baggage), () =>
        publisher.send(Uint8Array.of(1), { headers }),
      ),
    )
  t.truthy(propagation.getBaggage(active))
  send({ traceparent: 'mine' })
  const mine = await subscriber.receive()
  t.is(mine.headers['traceparent'], 'mine')
  t.is(mine.headers['baggage']?.length, 'user='.length + 3000)
  send({ large: 'x'.repeat(6000) })
  t.deepEqual(Object.keys((await subscriber.receive()).headers), ['large', 'traceparent'])
  send({ large: 'x'.repeat(8192 - 4 - 'large'.length) })
  t.deepEqual(Object.keys((await subscriber.receive()).headers), ['large'])
  const many = Object.fromEntries(Array.from({ length: 64 }, (_, n) => [`h${n}`, '']))
  send(many)
  t.deepEqual({ ...(await subscriber.receive()).headers }, many)
})

test.serial('what the tracer adds makes no message fail: not by size, by count or by name', async (t) => {
  const bus = await place(t).bus()
  const publisher = await bus.publisher('news', { capacity: 4096 })
  const subscriber = await bus.subscriber('news')
  await subscriber.attached()
  const own = { own: 'x' }
  const ownBytes = 4 + 'own'.length + 1
  const check = async (sent: boolean, length: number, names: string[]): Promise<void> => {
    t.true(sent)
    const { data, headers } = await subscriber.receive()
    t.is(data.byteLength, length)
    t.deepEqual(Object.keys(headers), names)
  }
  const full = publisher.maxMessage
  await check(
    inTrace(1, () => publisher.send(new Uint8Array(full))),
    full,
    [],
  )
  const rest = full - ownBytes
  await check(
    inTrace(2, () => publisher.send(new Uint8Array(rest), { headers: own })),
    rest,
    ['own'],
  )
  await inTrace(3, () => publisher.write(new Uint8Array(full)))
  await check(true, full, [])
  // It goes in pieces, while it is read.
  const writing = inTrace(4, () => publisher.write(new Uint8Array(2 * full)))
  await check(true, 2 * full, ['traceparent'])
  await writing
  const many = Object.fromEntries(Array.from({ length: 64 }, (_, number) => [`n${number}`, '']))
  await check(
    inTrace(5, () => publisher.send(new Uint8Array(1), { headers: many })),
    1,
    Object.keys(many),
  )
  for (const headers of [null, ['a'], 'a', { own: 1 }])
    t.throws(() => inTrace(6, () => publisher.send(new Uint8Array(1), { headers: headers as never })), {
      code: 'ERR_RINGBELL_INVALID_OPTION',
    })
  t.throws(() => inTrace(7, () => publisher.send(null as never)), { code: 'ERR_RINGBELL_CODEC' })

  await bus.serve('talk', { capacity: 4096 })
  const connection = await (await bus.connect('talk')).connected()
  const most = 4096 / 2
  const atOnce = (length: number): boolean => {
    try {
      connection.send(new Uint8Array(length))
      return true
    } catch {
      return false
    }
  }
  let length = most
  while (!atOnce(length)) length--
  t.true(length > most / 2)
  t.notThrows(() => inTrace(8, () => connection.send(new Uint8Array(length))))
})

test.serial('a propagator that fails or writes what cannot be sent makes nothing fail', async (t) => {
  const bus = await place(t).bus()
  await bus.serve('here', { codec: 'json' }, (_: unknown, { headers }) => [Object.keys(headers), present() ?? null])
  const client = await bus.connect<unknown, unknown>('here', { codec: 'json' })
  const call = (): Promise<unknown> => inTrace(1, () => client.call(null, { headers: { own: 'x' } }))
  const use = (propagator: TextMapPropagator): void => {
    propagation.disable()
    propagation.setGlobalPropagator(propagator)
  }
  t.teardown(() => use(STANDARD))
  const fails = (): never => {
    throw new Error('from the propagator')
  }
  use({ inject: fails, extract: fails, fields: () => [] })
  t.deepEqual(await call(), [['own'], null])
  const writes: TextMapPropagator['inject'] = (_context, carrier, setter) => {
    for (const [name, value] of [
      ['a b', '1'],
      ['', '1'],
      ['fine', 'two\nlines'],
      ['Right', '1'],
    ] as const)
      setter.set(carrier, name, value)
  }
  use({ inject: writes, extract: fails, fields: () => [] })
  t.deepEqual(await call(), [['own', 'right'], null])
})

test('the library loads nothing of OpenTelemetry, and without that package its import says what is missing', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'ringbell-tracing-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  for (const path of ['index.js', 'package.json', 'dist'])
    cpSync(join(ROOT, path), join(folder, path), { recursive: true })
  const script = `import(process.argv[1])
    .then(() => import(process.argv[2]))
    .catch(({ code, message }) => console.log(code, message))`
  const [index, tracing] = ['index.js', 'dist/tracing/index.js'].map((path) => pathToFileURL(join(folder, path)).href)
  const { stdout } = spawnSync(process.execPath, ['-e', script, index ?? '', tracing ?? ''], { encoding: 'utf8' })
  t.regex(stdout, /^ERR_RINGBELL_MISSING_PACKAGE ringbell\/tracing needs the package @opentelemetry\/api, /)
})
