/**
 * A user's program that uses each feature once: 18 steps, each of which says how long it took. It imports only `ringbell`
 * and Node's builtins. So it runs on each runtime, and bundled. scripts/reach runs it; `node features.mjs` does, too. It ends
 * with `18 passed, 0 failed`. A step that hangs is stopped by a watchdog, which ends the run.
 */
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'

/** Milliseconds for one step: an emulated processor is a hundred times slower than the machine. */
const PATIENCE = 5 * 60_000
const SELF = process.argv[1] ?? ''
const MANY = 10_000

/** @param {unknown} condition @param {string} what */
function assert(condition, what) {
  if (!condition) throw new Error(what)
}

/** @type {typeof import('ringbell')} */
let ringbell
/** @type {import('ringbell').Bus} */
let bus

/** Publishes all messages, in order, without losing one. @param {string} topic @param {number} count */
async function publishAll(topic, count) {
  const publisher = await bus.publisher(topic, { overflow: 'block' })
  while (publisher.subscribers === 0) await new Promise((done) => setTimeout(done, 1))
  for (let number = 0; number < count; number++)
    while (!publisher.send(Buffer.from(`message ${number}`))) await publisher.ready()
  return publisher
}

/** Receives all of them. @param {string} topic @param {number} count */
async function receiveAll(topic, count) {
  const subscriber = await bus.subscriber(topic, { from: 'earliest' })
  let received = 0
  for await (const { data } of subscriber) {
    assert(Buffer.from(data).toString() === `message ${received}`, `message ${received} is ${Buffer.from(data)}`)
    if (++received === count) break
  }
  await subscriber.close()
}

/** Numbers, written by a batch writer and read with this lifetime. @param {'owned' | 'borrowed' | 'lease'} lifetime */
async function batches(lifetime) {
  const publisher = await bus.publisher(`batch.${lifetime}`, { overflow: 'block' })
  const subscriber = await bus.subscriber(`batch.${lifetime}`)
  await subscriber.attached()
  const writer = publisher.batch()
  for (let number = 0; number < 1000; number++) assert(writer.push(Buffer.from([number & 255, 1])), 'there is room')
  writer.commit()
  let seen = 0
  for await (const batch of subscriber.batches({ lifetime })) {
    assert(batch.lifetime === lifetime, `the lifetime is ${batch.lifetime}`)
    for (let i = 0; i < batch.length; i++) assert(batch.data(i)[0] === (seen++ & 255), `number ${seen - 1} is right`)
    if (seen === 1000) break
  }
  await subscriber.close()
  await publisher.close()
}

/** @param {Promise<unknown>} promise @param {string} code */
async function refuses(promise, code) {
  const error = await promise.then(
    () => undefined,
    (reason) => reason,
  )
  assert(error?.code === code || error?.name === code, `${error} instead of ${code}`)
}

/** A server and a client of it. */
async function calls() {
  const server = await bus.serve('calls', { codec: 'json' }, async ({ op, n }, { signal }) => {
    if (op === 'fail') throw Object.assign(new Error('as asked'), { code: 'E_ASKED' })
    if (op === 'wait') await new Promise((done) => signal.addEventListener('abort', done))
    return n + 1
  })
  return { server, client: await bus.connect('calls', { codec: 'json' }) }
}

/** The steps, in order. @type {Record<string, () => Promise<void>>} */
const STEPS = {
  async import() {
    ringbell = await import('ringbell')
    assert(ringbell.errorCodes.length > 0, 'there are error codes')
  },
  async open() {
    bus = await ringbell.Bus.open()
    assert((await bus.doctor()).checks.length > 0, 'the doctor checks something')
  },
  async '1,000 messages'() {
    const [publisher] = await Promise.all([publishAll('messages', 1000), receiveAll('messages', 1000)])
    await publisher.close()
  },
  async codecs() {
    const values = { json: { a: [1, 'zwei'] }, structured: new Map([[1, new Date(5)]]), bytes: Buffer.from('bytes') }
    for (const [codec, value] of Object.entries(values)) {
      const options = { codec: /** @type {'json'} */ (codec) }
      const publisher = await bus.publisher(`codec.${codec}`, options)
      const subscriber = await bus.subscriber(`codec.${codec}`, options)
      await subscriber.attached()
      publisher.send(value)
      const got = (await subscriber.receive()).value
      const said = JSON.stringify(got instanceof Map ? [...got] : got)
      assert(got instanceof Map === (codec === 'structured') && said.length > 4, `${codec} gave ${said}`)
      await subscriber.close()
      await publisher.close()
    }
  },
  'owned batches': () => batches('owned'),
  'borrowed batches': () => batches('borrowed'),
  leases: () => batches('lease'),
  async 'a write of 20 MiB'() {
    const publisher = await bus.publisher('large', { overflow: 'block' })
    const subscriber = await bus.subscriber('large', { maxMessage: 32 << 20 })
    await subscriber.attached()
    const large = Buffer.alloc(20 << 20, 'ringbell')
    const [{ data }] = await Promise.all([subscriber.receive(), publisher.write(large)])
    assert(Buffer.compare(data, large) === 0, 'it arrives as it was')
    await subscriber.close()
    await publisher.close()
  },
  async events() {
    const subscriber = await bus.subscriber('events')
    const attached = once(subscriber, 'attached')
    const ended = once(subscriber, 'ended')
    const publisher = await bus.publisher('events')
    assert((await attached)[0].service.id === publisher.service.id, 'it is this publisher')
    await publisher.close()
    assert((await ended)[1] === 'closed', 'it has closed')
    await subscriber.close()
  },
  async signals() {
    const subscriber = await bus.subscriber('silence')
    await refuses(subscriber.receive({ signal: AbortSignal.timeout(5) }), 'AbortError')
    const controller = new AbortController()
    const waiting = subscriber.receive({ signal: controller.signal })
    controller.abort()
    await refuses(waiting, 'AbortError')
    await subscriber.close()
  },
  async '200 parallel calls'() {
    const { server, client } = await calls()
    const replies = await Promise.all(Array.from({ length: 200 }, (_, n) => client.call({ op: 'add', n })))
    assert(
      replies.every((reply, n) => reply === n + 1),
      'each call has its own reply',
    )
    await client.close()
    await server.close()
  },
  async 'a call that fails, one that takes too long'() {
    const { server, client } = await calls()
    await refuses(client.call({ op: 'fail' }), 'E_ASKED')
    await refuses(client.call({ op: 'wait' }, { timeout: 20 }), 'ERR_RINGBELL_TIMEOUT')
    await client.close()
    await server.close()
  },
  async 'a generator'() {
    const server = await bus.serve('count', { codec: 'json' }, async function* (to) {
      for (let n = 0; n < Number(to); n++) yield n
    })
    const client = await bus.connect('count', { codec: 'json' })
    let expected = 0
    for await (const n of client.stream(500)) assert(n === expected++, `${n} follows ${expected - 2}`)
    assert(expected === 500, `${expected} pieces`)
    await client.close()
    await server.close()
  },
  async 'queue and worker'() {
    const queue = await bus.queue('jobs', { codec: 'json' })
    /** @type {unknown[]} */
    const done = []
    const worker = await bus.worker('jobs', { codec: 'json', concurrency: 4 }, async (job) => void done.push(job))
    for (let n = 0; n < 500; n++) while (!queue.push(n)) await queue.ready()
    await queue.drained()
    assert(done.length === 500 && queue.stats().acknowledged === 500, `${done.length} jobs are done`)
    await worker.close()
    await queue.close()
  },
  async watch() {
    /** @type {string[]} */
    const seen = []
    const watching = (async () => {
      for await (const { type, service } of bus.services.watch()) {
        if (service.name === 'watched') seen.push(type)
        if (type === 'removed' && service.name === 'watched') break
      }
    })()
    const announced = await bus.announce('watched', { metadata: { n: 1 } })
    while (seen.length < 1) await new Promise((done) => setTimeout(done, 1))
    announced.update({ n: 2 })
    while (seen.length < 2) await new Promise((done) => setTimeout(done, 1))
    await announced.close()
    await watching
    assert(seen.join() === 'added,updated,removed', `it saw ${seen}`)
  },
  async 'a worker thread, terminated'() {
    const subscriber = await bus.subscriber('thread')
    const worker = new Worker(SELF, { workerData: { path: bus.path } })
    const ended = once(subscriber, 'ended')
    await subscriber.receive()
    await worker.terminate()
    // It ends after the last message that the worker has sent.
    subscriber.listen(() => {})
    assert((await ended)[0].service.name === 'thread', 'its publisher has ended')
    await subscriber.close()
  },
  async 'two processes, 10,000 messages'() {
    const child = fork(SELF, ['publish'], { env: { ...process.env, IPC_BUS_DIR: bus.path } })
    const exited = once(child, 'exit')
    await receiveAll('processes', MANY)
    child.send('enough')
    assert((await exited)[0] === 0, 'the other process ends with 0')
  },
  async 'stats and close'() {
    const publisher = await bus.publisher('stats')
    const subscriber = await bus.subscriber('stats')
    await subscriber.attached()
    publisher.send(Buffer.from('one'))
    await subscriber.receive()
    assert(publisher.stats().messages === 1, `${publisher.stats().messages} messages are counted`)
    assert(subscriber.stats().sources[0]?.rung !== undefined, 'the rung is told')
    await bus.close()
    assert(bus.closed && publisher.closed && subscriber.closed, 'everything is closed')
  },
}

/** Every step on a bus of its own. */
async function main() {
  const folder = mkdtempSync(join(tmpdir(), 'ringbell-features-'))
  process.env['IPC_BUS_DIR'] ??= join(folder, 'bus')
  let failed = 0
  for (const [name, step] of Object.entries(STEPS)) {
    const watchdog = setTimeout(() => {
      console.log(`FAIL ${name}: no end after ${PATIENCE / 1000} s`)
      process.exit(3)
    }, PATIENCE)
    const from = performance.now()
    try {
      await step()
      console.log(`ok ${name} (${(performance.now() - from).toFixed(1)} ms)`)
    } catch (error) {
      failed++
      console.log(`FAIL ${name}: ${error instanceof Error ? error.stack : String(error)}`)
    }
    clearTimeout(watchdog)
  }
  rmSync(folder, { recursive: true, force: true })
  console.log(`${Object.keys(STEPS).length - failed} passed, ${failed} failed`)
  // A step that failed may have left something open.
  process.exit(failed === 0 ? 0 : 1)
}

/** The other process of a step: it publishes, and ends when the first one says so or is gone. */
async function publisherProcess() {
  const enough = Promise.race([once(process, 'message'), once(process, 'disconnect')])
  const { Bus } = await import('ringbell')
  bus = await Bus.open()
  await publishAll('processes', MANY)
  await enough
  await bus.close()
  if (process.connected) process.disconnect()
}

/** The worker thread of a step: it publishes until it is terminated. */
async function publisherThread() {
  const { Bus } = await import('ringbell')
  bus = await Bus.open({ path: workerData.path })
  const publisher = await bus.publisher('thread')
  parentPort?.on('message', () => {})
  for (;;) {
    publisher.send(Buffer.from('still here'))
    await new Promise((done) => setImmediate(done))
  }
}

if (!isMainThread) await publisherThread()
else if (process.argv[2] === 'publish') await publisherProcess()
else await main()
