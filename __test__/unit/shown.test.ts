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
  t.deepEqual(fields(context), ['signal', 'connection', 'timeout', 'redelivered'])
  t.deepEqual(Object.getOwnPropertyNames(context), [])
  t.deepEqual(Object.getOwnPropertyNames(Object.getPrototypeOf(context)), [
    'constructor',
    'signal',
    'connection',
    'timeout',
    'redelivered',
  ])
})
