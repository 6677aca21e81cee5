/**
 * What comes from another realm (`node:vm`, a test under Jest) is as good as ours: every call that takes bytes takes such an
 * array, and errors of the binding that were made there get their class.
 */
import { closeSync, openSync } from 'node:fs'
import { runInNewContext } from 'node:vm'
import test from 'ava'
import { fakeBus } from '../helpers/fake-channel.js'
import { place } from '../helpers/place.js'

import { fromNative, RingbellError } from '../../src/errors.js'
import { onAbort } from '../../src/wait/abort.js'

const theirs = (...bytes: number[]): Uint8Array =>
  runInNewContext('new Uint8Array(bytes)', { bytes: [...bytes] }) as Uint8Array

const error = (code: string): Error =>
  runInNewContext('Object.assign(new TypeError("no"), { code })', { code }) as Error

test('the arrays of this test are not instances here', (t) => {
  t.false(theirs(1) instanceof Uint8Array)
  t.false(error('E') instanceof Error)
})

test('topics: send, write, batches', async (t) => {
  const bus = await place(t).bus()
  const publisher = await bus.publisher('realm')
  const subscriber = await bus.subscriber('realm')
  await subscriber.attached()
  t.true(publisher.send(theirs(1)))
  await publisher.write(theirs(2))
  const batch = publisher.batch()
  t.true(batch.push(theirs(3)))
  batch.commit()
  const large = runInNewContext('new Uint8Array(2 ** 20).fill(4)') as Uint8Array
  const written = publisher.write(large)
  const got: number[] = []
  for await (const { data } of subscriber) if (got.push(data[0] as number) === 4) break
  await written
  t.deepEqual(got, [1, 2, 3, 4])
  const codec = { id: 'theirs', encode: () => theirs(5), decode: (data: Uint8Array) => data[0] }
  const encoded = await bus.publisher('realm-codec', { codec })
  t.true(encoded.send(1))
})

test('calls, replies and memory for a reply', async (t) => {
  const bus = await place(t).bus()
  await bus.serve('realm', async (request) => theirs(request[0] as number, 7))
  const client = await bus.connect('realm')
  t.deepEqual([...(await client.call(theirs(1)))], [1, 7])
  const into = theirs(0, 0, 0)
  t.deepEqual([...(await client.call(theirs(2), { into }))], [2, 7])
  t.deepEqual([...into], [2, 7, 0])
  const large = await bus.serve('large', () => runInNewContext('new Uint8Array(100000).fill(9)') as Uint8Array)
  const asking = await bus.connect('large')
  const memory = runInNewContext('new Uint8Array(100000)') as Uint8Array
  t.is(
    (await asking.call(runInNewContext('new Uint8Array(90000)') as Uint8Array, { into: memory })).byteLength,
    100_000,
  )
  t.is(memory[99_999], 9)
  await large.close()
})

test('streams of replies', async (t) => {
  const bus = await place(t).bus()
  await bus.serve('stream', async function* () {
    yield theirs(1)
    yield theirs(2)
  })
  const client = await bus.connect('stream')
  const got: number[] = []
  for await (const value of client.stream(theirs(0))) got.push(value[0] as number)
  t.deepEqual(got, [1, 2])
})

test('queues', async (t) => {
  const bus = await place(t).bus()
  const queue = await bus.queue('jobs')
  const got: number[] = []
  await bus.worker('jobs', (job) => got.push(job[0] as number))
  t.true(queue.push(theirs(3)))
  await queue.drained()
  t.deepEqual(got, [3])
})

test('messages of connections, and data beside descriptors', async (t) => {
  const bus = await place(t).bus()
  const server = await bus.serve('plain')
  const client = await bus.connect('plain')
  const mine = await client.connected()
  while (server.connections.length === 0) await new Promise((done) => setTimeout(done, 1))
  const [peer] = server.connections
  t.true(mine.send(theirs(1)))
  await mine.write(theirs(2))
  t.is((await peer?.receive())?.[0], 1)
  t.is((await peer?.receive())?.[0], 2)
  const fd = openSync('/dev/null', 'r')
  await mine.sendFds(theirs(4), [fd])
  closeSync(fd)
  const { data, fds } = (await peer?.receiveFds()) ?? { data: theirs(), fds: [] }
  for (const received of fds) closeSync(received)
  t.is(data[0], 4)
})

test('errors are known by their code', (t) => {
  const told = fromNative(error('ERR_RINGBELL_RESOURCE'))
  t.true(told instanceof RingbellError)
  t.is((told as RingbellError).code, 'ERR_RINGBELL_RESOURCE')
  // The class of a second copy of this package.
  const copy = runInNewContext('Object.assign(new Error("no"), { name: "RingbellError", code: "ERR_RINGBELL_BUSY" })')
  t.is(fromNative(copy), copy)
})

test('a signal of another class is a signal', async (t) => {
  const { bus } = fakeBus(t)
  let fire = (): void => {}
  const signal = {
    aborted: false,
    reason: 'enough',
    addEventListener: (_: string, listener: () => void) => (fire = listener),
    removeEventListener: () => {},
  } as unknown as AbortSignal
  const client = await bus.connect('nobody')
  const call = client.call(theirs(1), { signal })
  fire()
  t.like(await t.throwsAsync(call), { code: 'ABORT_ERR', cause: 'enough' })
  t.notThrows(() => onAbort(signal, () => {})())
})

test('what is not bytes is refused by its name', async (t) => {
  const bus = await place(t).bus()
  const publisher = await bus.publisher('odd')
  const wrong = 'text' as unknown as Uint8Array
  const refused = { code: 'ERR_RINGBELL_CODEC', message: /^Without a codec only a Uint8Array can be sent, not "text"/ }
  t.throws(() => publisher.send(wrong), refused)
  await t.throwsAsync(publisher.write(wrong), refused)
  t.throws(() => publisher.batch().push(wrong), { message: /^Option bytes/ })
  t.throws(() => publisher.batch().push(new Int8Array(1) as unknown as Uint8Array), { message: /^Option bytes/ })
  const codec = { id: 'broken', encode: () => undefined as unknown as Uint8Array, decode: () => undefined }
  const broken = await bus.publisher('broken', { codec })
  const told = { code: 'ERR_RINGBELL_CODEC', message: /Codec broken encoded a value as something else/ }
  t.throws(() => broken.send(undefined), told)
  await bus.serve('broken-server', { codec })
  const client = await bus.connect('broken-server', { codec })
  await t.throwsAsync(client.call(undefined), told)
  const mine = await client.connected()
  await t.throwsAsync(mine.sendFds(wrong, [0]), { message: /^Option data/ })
  t.throws(() => mine.send(undefined), told)
})
