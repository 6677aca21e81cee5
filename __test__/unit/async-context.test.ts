/** AsyncLocalStorage: a callback runs in the context in which it was registered, never in that of another client or call. */
import { AsyncLocalStorage } from 'node:async_hooks'
import { type EventEmitter, once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import test from 'ava'
import { place } from '../helpers/place.js'
import { Emitter } from '../../src/wait/emitter.js'

const storage = new AsyncLocalStorage<string>()
const one = Uint8Array.of(1)

test('a request runs in the context of its server, whatever other requests enter', async (t) => {
  const bus = await place(t).bus()
  const seen: (string | undefined)[] = []
  const enter = async (request: Uint8Array): Promise<Uint8Array> => {
    seen.push(storage.getStore())
    storage.enterWith(`request ${request[0]}`)
    await sleep(1)
    seen.push(storage.getStore())
    return request
  }
  await storage.run('server', () => bus.serve('s', enter))
  const clients = await Promise.all(['a', 'b'].map((name) => storage.run(name, () => bus.connect('s'))))
  await Promise.all(clients.map((client) => client.connected()))
  for (let n = 0; n < 6; n++)
    await storage.run(`call ${n}`, async () => {
      await clients[n % 2]?.call(Uint8Array.of(n))
      t.is(storage.getStore(), `call ${n}`)
    })
  t.deepEqual(seen, Array.from({ length: 6 }, (_, n) => ['server', `request ${n}`]).flat())
  seen.length = 0
  await Promise.all(Array.from({ length: 100 }, async (_, n) => clients[n % 2]?.call(Uint8Array.of(n))))
  t.is(seen.filter((context) => context === 'server').length, 100)
  t.is(new Set(seen).size, 101)
})

test('synchronous handlers, streams and signals of a request', async (t) => {
  const bus = await place(t).bus()
  const seen: (string | undefined)[] = []
  await storage.run('server', () =>
    bus.serve('s', (request, { signal }) => {
      seen.push(storage.getStore())
      storage.enterWith(`request ${request[0]}`)
      signal.addEventListener('abort', () => seen.push(storage.getStore()))
      return (async function* () {
        for (;;) yield Buffer.from(String(storage.getStore()))
      })()
    }),
  )
  const client = await bus.connect('s')
  for (const n of [1, 2]) {
    const pieces = client.stream(Uint8Array.of(n))
    t.is(String(Buffer.from((await pieces.next()).value ?? [])), `request ${n}`)
    await pieces.return?.()
    while (seen.length < 2 * n) await sleep(1)
  }
  t.deepEqual(seen, ['server', 'request 1', 'server', 'request 2'])
})

test('jobs of a worker', async (t) => {
  const bus = await place(t).bus()
  const queue = await bus.queue('jobs')
  const seen: (string | undefined)[] = []
  await storage.run('worker', () =>
    bus.worker('jobs', () => {
      seen.push(storage.getStore())
      storage.enterWith('job')
    }),
  )
  for (let n = 0; n < 4; n++) storage.run(`push ${n}`, () => queue.push(one))
  await queue.drained()
  t.deepEqual(
    seen,
    Array.from({ length: 4 }, () => 'worker'),
  )
})

test('listen, and listeners of events', async (t) => {
  const bus = await place(t).bus()
  const subscriber = await storage.run('subscriber', () => bus.subscriber('t'))
  const seen: (string | undefined)[] = []
  storage.run('on', () => subscriber.on('attached', () => seen.push(storage.getStore())))
  storage.run('once', () => subscriber.once('attached', () => seen.push(storage.getStore())))
  storage.run('listen', () => subscriber.listen(() => seen.push(storage.getStore())))
  const publisher = await storage.run('publisher', () => bus.publisher('t'))
  await subscriber.attached()
  for (let n = 0; n < 3; n++) {
    storage.run('send', () => publisher.send(one))
    await sleep(5)
  }
  while (seen.length < 5) await sleep(1)
  t.deepEqual(seen, ['on', 'once', 'listen', 'listen', 'listen'])
})

test('an emitter is one of Node in everything else', async (t) => {
  const emitter = new Emitter<{ a: [n: number]; b: [] }>()
  const seen: string[] = []
  const listener = (n: number): void => void seen.push(`on ${n}`)
  const added: unknown[] = []
  const plain = emitter as unknown as EventEmitter
  plain.on('newListener', (_, given: unknown) => added.push(given))
  emitter.on('a', listener)
  emitter.once('a', listener)
  emitter.prependOnceListener('a', (n) => void seen.push(`first ${n}`))
  t.deepEqual(added.slice(0, 2), [listener, listener])
  t.deepEqual(emitter.listeners('a').slice(1), [listener, listener])
  t.is(emitter.listenerCount('a', listener), 2)
  emitter.emit('a', 1)
  emitter.emit('a', 2)
  t.deepEqual(seen, ['first 1', 'on 1', 'on 1', 'on 2'])
  emitter.off('a', listener)
  t.is(emitter.listenerCount('a'), 0)
  emitter.once('a', listener).off('a', listener)
  t.is(emitter.listenerCount('a'), 0)
  const came = once(emitter, 'b')
  emitter.emit('b')
  t.deepEqual(await came, [])
  t.is(emitter.listenerCount('b'), 0)
  const that: unknown[] = []
  emitter.on('b', function (this: unknown) {
    that.push(this)
  })
  emitter.emit('b')
  t.is(that[0], emitter)
  t.throws(() => emitter.on('b', 'no' as never), { code: 'ERR_INVALID_ARG_TYPE' })
})
