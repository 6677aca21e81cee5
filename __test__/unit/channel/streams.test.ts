/** Streamed replies over the fake: back-pressure by credit, ends of every kind, and who is told. */
import test from 'ava'
import type { RingbellError } from 'ringbell'
import { fakeBus, turns } from '../../helpers/fake-channel.js'

test('a generator is run at the pace of its reader', async (t) => {
  const { bus } = fakeBus(t)
  let made = 0
  await bus.serve<number, number>('count', { codec: 'json' }, async function* (to) {
    for (let n = 0; n < to; n++) yield made++
  })
  const client = await bus.connect<number, number>('count', { codec: 'json' })
  const stream = client.stream(1000)
  await turns(5)
  t.is(made, 0, 'nothing happens before somebody reads')
  t.deepEqual(await stream.next(), { value: 0, done: false })
  await turns(20)
  t.is(made, 32, 'no further ahead than the window')
  const rest: number[] = []
  for await (const n of stream) rest.push(n)
  t.is(rest.length, 999)
  t.true(rest.every((n, at) => n === at + 1))
  t.is(client.stats().inFlight, 0)
})

test('leaving the loop cancels: the signal fires, and the generator returns', async (t) => {
  const { bus } = fakeBus(t)
  const seen: string[] = []
  const server = await bus.serve<number, number>('endless', { codec: 'json' }, async function* (_from, { signal }) {
    signal.addEventListener('abort', () => seen.push('abort'))
    try {
      for (let n = 0; ; n++) yield n
    } finally {
      seen.push('returned')
    }
  })
  const client = await bus.connect<number, number>('endless', { codec: 'json' })
  for await (const n of client.stream(0)) if (n === 100) break
  while (seen.length < 2) await turns()
  t.deepEqual(seen, ['abort', 'returned'])
  t.like(server.stats(), { inHand: 0, cancelled: 1 })
  t.is(client.stats().inFlight, 0)
})

test('an exception of a generator arrives after its values', async (t) => {
  const { bus } = fakeBus(t)
  await bus.serve<number, number>('breaks', { codec: 'json' }, async function* () {
    yield 1
    yield 2
    throw Object.assign(new Error('no more'), { code: 'E_DRY' })
  })
  const client = await bus.connect<number, number>('breaks', { codec: 'json' })
  const got: number[] = []
  const error = await t.throwsAsync(async () => {
    for await (const n of client.stream(0)) got.push(n)
  })
  t.like(error, { name: 'RemoteError', code: 'E_DRY', message: 'no more' })
  t.deepEqual(got, [1, 2])
})

test('a single reply is a stream of one; a stream is no single reply', async (t) => {
  const { bus } = fakeBus(t)
  await bus.serve<number, number>('one', { codec: 'json' }, async (n) => n + 1)
  const one = await bus.connect<number, number>('one', { codec: 'json' })
  const got: number[] = []
  for await (const n of one.stream(1)) got.push(n)
  t.deepEqual(got, [2])
  let returned = false
  await bus.serve<number, number>('many', { codec: 'json' }, async () => ({
    [Symbol.asyncIterator]: () => ({
      next: async () => ({ value: 1, done: false }),
      return: async () => {
        returned = true
        return { value: undefined, done: true }
      },
    }),
  }))
  const many = await bus.connect<number, number>('many', { codec: 'json' })
  await t.throwsAsync(many.call(1), { code: 'ERR_RINGBELL_STREAM' })
  while (!returned) await turns()
  t.pass()
})

test('a signal or close ends a stream, before it began or in the middle', async (t) => {
  const { bus } = fakeBus(t)
  await bus.serve<number, number>('slow', { codec: 'json' }, async function* (_n, { signal }) {
    yield 1
    await new Promise((done) => signal.addEventListener('abort', done))
  })
  const client = await bus.connect<number, number>('slow', { codec: 'json' })
  t.throws(() => client.stream(1, { signal: AbortSignal.abort() }), { code: 'ABORT_ERR' } as object)
  const control = new AbortController()
  const stream = client.stream(1, { signal: control.signal })
  t.is((await stream.next()).value, 1)
  const next = stream.next()
  control.abort()
  t.is(((await t.throwsAsync(next)) as RingbellError | undefined)?.name, 'AbortError')
  const other = client.stream(1)
  await other.next()
  const pending = other.next()
  await client.close()
  await t.throwsAsync(pending, { code: 'ERR_RINGBELL_CLOSED' })
})

test('a dead server ends the stream after the values that came', async (t) => {
  const { bus, fake } = fakeBus(t)
  await bus.serve<number, number>('mortal', { codec: 'json' }, async function* () {
    yield 1
    yield 2
    await new Promise(() => {})
  })
  const client = await bus.connect<number, number>('mortal', { codec: 'json' })
  const stream = client.stream(0)
  t.is((await stream.next()).value, 1)
  await turns(3)
  fake.made[0]?.die()
  await turns(3)
  t.is((await stream.next()).value, 2)
  await t.throwsAsync(stream.next(), { code: 'ERR_RINGBELL_OUTCOME_UNKNOWN' })
  t.true((await stream.next()).done)
})

test('chunks larger than the ring, and a ring that is full', async (t) => {
  const { bus } = fakeBus(t)
  await bus.serve('blobs', { capacity: 4096 }, async function* (request) {
    for (let n = 0; n < 20; n++) yield new Uint8Array((request[0] as number) * 1000).fill(n)
  })
  const client = await bus.connect('blobs')
  for (const size of [1, 50]) {
    let n = 0
    for await (const chunk of client.stream(Uint8Array.of(size))) {
      t.is(chunk.byteLength, size * 1000)
      t.is(chunk.at(-1), n++)
    }
    t.is(n, 20)
  }
})

test('a promise that settles twice begins one stream', async (t) => {
  const { bus } = fakeBus(t)
  let begun = 0
  async function* values() {
    begun++
    yield Uint8Array.of(1)
  }
  const then = (settle: (value: unknown) => void): void => {
    // By then there is credit.
    for (let n = 0; n < 2; n++) setImmediate(() => settle(values()))
  }
  await bus.serve('twice', () => Object.assign(Promise.resolve(), { ['then' as string]: then }) as never)
  const client = await bus.connect('twice')
  const got: Uint8Array[] = []
  for await (const one of client.stream(Uint8Array.of(0))) got.push(one)
  await turns(3)
  t.is(begun, 1)
  t.deepEqual(got, [Uint8Array.of(1)])
})

test('a handler may fill the memory of a large value again once it is asked for the next', async (t) => {
  const { bus } = fakeBus(t)
  await bus.serve('blobs', async function* () {
    const memory = new Uint8Array(200_000)
    for (let n = 0; n < 60; n++) {
      memory.fill(n)
      yield memory
    }
  })
  const client = await bus.connect('blobs')
  const mixed: number[] = []
  let n = 0
  for await (const chunk of client.stream(Uint8Array.of(0))) {
    if (chunk.some((one) => one !== n)) mixed.push(n)
    n++
  }
  t.is(n, 60)
  t.deepEqual(mixed, [])
})

test('a large value that fits into the ring at once', async (t) => {
  const { bus } = fakeBus(t)
  await bus.serve('blobs', async function* () {
    yield new Uint8Array(40_000)
    yield Uint8Array.of(1)
  })
  const client = await bus.connect('blobs')
  const sizes: number[] = []
  for await (const { byteLength } of client.stream(Uint8Array.of(0))) sizes.push(byteLength)
  t.deepEqual(sizes, [40_000, 1])
})
