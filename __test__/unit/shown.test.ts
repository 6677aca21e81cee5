/** Objects that users get show what is documented, and none of the machinery. */
import { inspect } from 'node:util'
import test from 'ava'
import type { CallContext } from 'ringbell'
import { place } from '../helpers/place.js'

/** The fields that it shows. */
function fields(object: object): string[] {
  const text = inspect(object, { compact: false, depth: 0, breakLength: 80 })
  return [...text.matchAll(/^ {2}(\S+?):/gm)].map(([, name = '']) => name)
}

test('every endpoint', async (t) => {
  const bus = await place(t).bus()
  const publisher = await bus.publisher('topic')
  const subscriber = await bus.subscriber('topic')
  const server = await bus.serve('server', (request) => request)
  const client = await bus.connect('server')
  const queue = await bus.queue('queue')
  const worker = await bus.worker('queue', () => {})
  const announced = await bus.announce('other')
  const all = { bus, publisher, subscriber, server, client, queue, worker, announced }
  await Promise.all([subscriber.attached(), client.connected()])
  const shown = Object.fromEntries(Object.entries(all).map(([name, one]) => [name, fields(one)]))
  t.deepEqual(shown, {
    bus: ['path', 'pathSource', 'closed'],
    publisher: ['service', 'closed', 'subscribers', 'maxMessage'],
    subscriber: ['pattern', 'closed', 'publishers'],
    server: ['service', 'closed', 'connections'],
    client: ['name', 'closed', 'connections'],
    queue: ['service', 'closed', 'workers', 'size'],
    worker: ['name', 'closed', 'queues'],
    announced: ['service', 'closed'],
  })
  t.regex(inspect(client), /^Client \{\n {2}name: 'server',\n {2}closed: false,\n {2}connections: \[/)
  await bus.close()
  // What needs the core is left out, and nothing throws.
  t.is(inspect(server), 'Server { closed: true, connections: [] }')
  t.regex(inspect(subscriber), /^Subscriber \{\n {2}pattern: 'topic',\n {2}closed: true,/)
  t.regex(inspect(publisher), /^Publisher \{ closed: true,/)
})

test('states, claims and everything that is taken in turns', async (t) => {
  const bus = await place(t).bus()
  const state = await bus.state('state')
  const stateReader = await bus.watchState('state')
  const keyedState = await bus.keyedState('keyed')
  const keyedStateReader = await bus.watchKeyedState('keyed')
  const claim = await bus.claim('leader')
  const lockHandle = await bus.locks.open('lock')
  const lock = await lockHandle.acquire()
  const semaphore = await bus.semaphore('semaphore', { permits: 2 })
  const permits = await semaphore.acquire()
  const flag = await bus.flag('flag')
  const shardedMutex = await bus.shardedMutex('mutex', { shards: 4 })
  const keysLock = await shardedMutex.acquire('key')
  const all = { state, stateReader, keyedState, keyedStateReader, claim, lockHandle, lock, semaphore, permits, flag }
  const shown = Object.entries({ ...all, shardedMutex, keysLock }).map(([name, one]) => [name, fields(one)])
  t.deepEqual(Object.fromEntries(shown), {
    state: ['service', 'closed', 'readers', 'version'],
    stateReader: ['name', 'closed', 'version', 'writers'],
    keyedState: ['service', 'closed', 'readers', 'version'],
    keyedStateReader: ['name', 'closed', 'writers'],
    claim: ['name', 'epoch', 'held'],
    lockHandle: ['name', 'closed'],
    lock: ['name', 'mode', 'abandoned'],
    semaphore: ['name', 'permits', 'available', 'closed'],
    permits: ['name', 'count'],
    flag: ['name', 'closed'],
    shardedMutex: ['name', 'shards', 'closed'],
    keysLock: ['name', 'abandoned'],
  })
  t.is(inspect(bus.locks), 'Locks {}')
  t.is(inspect(bus.claims), 'Claims {}')
  await bus.close()
  t.is(inspect(semaphore), "Semaphore { name: 'semaphore', permits: 2, closed: true }")
  t.regex(inspect(claim), /^Claim \{ name: 'leader', epoch: \d+, held: false \}$/)
  t.is(inspect(state), 'State { closed: true, readers: 0, version: 0 }')
})

test('what calls return', async (t) => {
  const bus = await place(t).bus()
  const publisher = await bus.publisher('topic')
  const subscriber = await bus.subscriber('topic')
  const client = await bus.connect('server')
  const listening = subscriber.listen(() => {})
  t.is(inspect(listening), 'Listening { finished: Promise { <pending> } }')
  listening.stop()
  t.is(inspect(subscriber.messages()), 'Iteration {}')
  t.is(inspect(client.stream(new Uint8Array(1))), 'ReplyStream {}')
  t.is(inspect(publisher.batch()), 'BatchWriter { pending: 0 }')
  const loan = publisher.loan(1)
  t.regex(inspect(loan), /^Loan \{ data: Uint8Array\(1\)/)
  loan?.abandon()
  t.is(inspect(loan), 'Loan {}')
})

test("a handler's context has its documented members, and no others", async (t) => {
  const bus = await place(t).bus()
  let context: CallContext<unknown> | undefined
  await bus.serve('server', { codec: 'json' }, async (_request, given) => void (context = given))
  const client = await bus.connect('server', { codec: 'json' })
  await client.call(1, { timeout: 60_000 })
  if (context === undefined) throw new Error('no context')
  t.deepEqual(fields(context), ['signal', 'connection', 'timeout', 'streamed', 'redelivered', 'headers'])
  t.deepEqual(Object.getOwnPropertyNames(context), [])
  t.deepEqual(Object.getOwnPropertyNames(Object.getPrototypeOf(context)), [
    'constructor',
    'signal',
    'connection',
    'timeout',
    'streamed',
    'redelivered',
    'headers',
    'replyHeaders',
  ])
})
