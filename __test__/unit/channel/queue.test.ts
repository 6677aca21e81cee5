/** Work queues over the fake: every message once, unless somebody failed with it, and then it is marked. */
import { once } from 'node:events'
import test from 'ava'
import type { Codec } from 'ringbell'
import { KIND } from '../../../src/channel/wire.js'
import { fakeBus, turns } from '../../helpers/fake-channel.js'

test('each message goes to one worker, and is acknowledged once', async (t) => {
  const { bus } = fakeBus(t)
  const queue = await bus.queue<number>('jobs', { codec: 'json' })
  const done: number[][] = [[], []]
  for (const mine of done)
    await bus.worker<number>('jobs', { codec: 'json' }, async (n, { redelivered }) => {
      t.false(redelivered)
      await turns()
      mine.push(n)
    })
  for (let n = 0; n < 200; n++) t.true(queue.push(n))
  await queue.drained()
  t.deepEqual(
    done.flat().sort((a, b) => a - b),
    Array.from({ length: 200 }, (_, n) => n),
  )
  t.true(done.every(({ length }) => length > 50))
  t.like(queue.stats(), { workers: 2, waiting: 0, assigned: 0, pushed: 200, acknowledged: 200, redelivered: 0 })
})

test('a worker holds no more than its concurrency', async (t) => {
  const { bus } = fakeBus(t)
  const queue = await bus.queue<number>('jobs', { codec: 'json' })
  let most = 0
  let now = 0
  await bus.worker<number>('jobs', { codec: 'json', concurrency: 3 }, async () => {
    most = Math.max(most, ++now)
    await turns(2)
    now--
  })
  for (let n = 0; n < 30; n++) queue.push(n)
  await queue.drained()
  t.is(most, 3)
})

test('unacknowledged jobs of a dead worker go to another one, marked', async (t) => {
  const { bus, fake } = fakeBus(t)
  const queue = await bus.queue<number>('jobs', { codec: 'json' })
  const first: number[] = []
  await bus.worker<number>('jobs', { codec: 'json', concurrency: 5 }, async (n) => {
    first.push(n)
    if (n >= 3) await new Promise(() => {})
  })
  for (let n = 0; n < 20; n++) queue.push(n)
  while (first.length < 8) await turns()
  const second: [number, boolean][] = []
  fake.made[1]?.die()
  await bus.worker<number>('jobs', { codec: 'json' }, async (n, { redelivered }) => void second.push([n, redelivered]))
  await queue.drained()
  t.deepEqual(
    second
      .filter(([, redelivered]) => redelivered)
      .map(([n]) => n)
      .sort((a, b) => a - b),
    [3, 4, 5, 6, 7],
  )
  t.deepEqual(
    second.map(([n]) => n).sort((a, b) => a - b),
    Array.from({ length: 17 }, (_, n) => n + 3),
  )
  t.like(queue.stats(), { acknowledged: 20, redelivered: 5, failed: 0 })
})

test('a job that keeps failing is given up after its attempts', async (t) => {
  const { bus } = fakeBus(t)
  const queue = await bus.queue<number>('jobs', { codec: 'json', attempts: 3 })
  let tries = 0
  await bus.worker<number>('jobs', { codec: 'json' }, async (n) => {
    if (n !== 7) return
    tries++
    throw Object.assign(new Error('poison'), { code: 'E_POISON' })
  })
  const failed = once(queue, 'deadLetter')
  for (let n = 0; n < 10; n++) queue.push(n)
  const [value, error] = await failed
  t.is(value, 7)
  t.like(error, { name: 'RemoteError', code: 'E_POISON', message: 'poison' })
  await queue.drained()
  t.is(tries, 3)
  t.like(queue.stats(), { acknowledged: 9, failed: 1, redelivered: 2 })
})

test('a worker that times out loses its job, and gets no more meanwhile', async (t) => {
  const { bus } = fakeBus(t)
  const queue = await bus.queue<number>('jobs', { codec: 'json', timeout: 100 })
  let release = (): void => {}
  const stuck: number[] = []
  await bus.worker<number>('jobs', { codec: 'json' }, async (n, { signal }) => {
    stuck.push(n)
    signal.addEventListener('abort', () => stuck.push(-1))
    await new Promise<void>((done) => (release = done))
  })
  queue.push(1)
  while (stuck.length < 2) await turns()
  const good: number[] = []
  await bus.worker<number>('jobs', { codec: 'json' }, (n) => good.push(n))
  queue.push(2)
  await queue.drained()
  t.deepEqual(
    [stuck, [...new Set(good)].sort((a, b) => a - b)],
    [
      [1, -1],
      [1, 2],
    ],
  )
  release()
})

test('push returns false at the limit, and ready waits for room', async (t) => {
  const { bus } = fakeBus(t)
  const queue = await bus.queue<number>('jobs', { codec: 'json', limit: 2 })
  t.deepEqual([queue.push(1), queue.push(2), queue.push(3)], [true, true, false])
  const ready = queue.ready()
  const control = new AbortController()
  const aborted = queue.drained({ signal: control.signal })
  control.abort()
  await t.throwsAsync(aborted, { code: 'ABORT_ERR' } as object)
  const worker = await bus.worker<number>('jobs', { codec: 'json' }, () => {})
  await ready
  t.true(queue.push(3))
  await queue.drained()
  await worker.close({ grace: 1000 })
  queue.push(4)
  const waiting = queue.drained()
  await queue.close()
  await t.throwsAsync(waiting, { code: 'ERR_RINGBELL_CLOSED' })
  t.throws(() => queue.push(5), { code: 'ERR_RINGBELL_CLOSED' })
})

test('a refused job is given up after its attempts', async (t) => {
  const { bus } = fakeBus(t)
  const queue = await bus.queue('jobs', { attempts: 2 })
  const done: number[] = []
  await bus.worker('jobs', { maxMessage: 1000 }, (data) => void done.push(data.byteLength))
  const failures: unknown[] = []
  queue.on('deadLetter', (data, { code }) => failures.push([data.byteLength, code]))
  // In one piece, and in several.
  for (const bytes of [2000, 1, 100_000, 2]) queue.push(new Uint8Array(bytes))
  await queue.drained()
  await turns()
  t.deepEqual(done, [1, 2])
  t.deepEqual(
    failures,
    [2000, 100_000].map((bytes) => [bytes, 'ERR_RINGBELL_MESSAGE_TOO_LARGE']),
  )
  t.like(queue.stats(), { acknowledged: 2, failed: 2, redelivered: 2, assigned: 0 })
})

test('a job that cannot be decoded is given up after its attempts', async (t) => {
  const { bus } = fakeBus(t)
  const codec = (refused: number): Codec<number> => ({
    id: 'one-byte',
    encode: (n) => Uint8Array.of(n),
    decode: ([n = 0]) => {
      if (n === refused) throw new Error('not mine')
      return n
    },
  })
  const queue = await bus.queue('jobs', { codec: codec(-1), attempts: 2 })
  const done: number[] = []
  await bus.worker('jobs', { codec: codec(7) }, (n) => void done.push(n))
  const failed = once(queue, 'deadLetter')
  for (const n of [7, 1, 2]) queue.push(n)
  await queue.drained()
  t.deepEqual(done, [1, 2])
  t.like(await failed, { 0: 7, 1: { code: 'ERR_RINGBELL_CODEC' } })
  t.like(queue.stats(), { acknowledged: 2, failed: 1, redelivered: 1 })
})

test('a job that times out before delivery costs no credit', async (t) => {
  const { bus, fake } = fakeBus(t)
  const queue = await bus.queue('jobs', { capacity: 4096, timeout: 300, attempts: 1 })
  const done: number[] = []
  await bus.worker('jobs', (data) => void done.push(data.byteLength))
  while (queue.workers.length === 0) await turns()
  await turns(2)
  const side = fake.made[1]?.sides.get(0)
  if (side !== undefined) side.in.held = true
  const failed = once(queue, 'deadLetter')
  queue.push(new Uint8Array(50_000))
  t.like((await failed)[1], { code: 'ERR_RINGBELL_TIMEOUT' })
  if (side !== undefined) side.in.held = false
  queue.push(new Uint8Array(1))
  await queue.drained()
  t.deepEqual(done, [1])
})

test('a job that no worker has seen was not attempted, and goes to the next worker', async (t) => {
  const { bus, fake } = fakeBus(t)
  const queue = await bus.queue('jobs', { capacity: 4096, timeout: 300, attempts: 1 })
  let busy = 0
  const first = await bus.worker('jobs', { concurrency: 3 }, async (data) => {
    if (data[0] === 10) await new Promise((_done) => busy++)
  })
  while (queue.workers.length === 0) await turns()
  await turns(2)
  const side = fake.made[1]?.sides.get(0)
  if (side === undefined) throw new Error('nobody is there')
  side.in.held = true
  const failures: unknown[] = []
  queue.on('deadLetter', ([n], { code }) => failures.push([n, code]))
  // The ring has room for two.
  for (const n of [1, 2, 3]) queue.push(new Uint8Array(1500).fill(n))
  while (queue.stats().assigned > 0) await turns()
  await turns()
  t.deepEqual(
    failures,
    [1, 2].map((n) => [n, 'ERR_RINGBELL_TIMEOUT']),
  )
  t.like(queue.stats(), { failed: 2, waiting: 1, redelivered: 0 })
  const done: unknown[] = []
  const second = await bus.worker('jobs', ([n], { redelivered }) => void done.push([n, redelivered]))
  await queue.drained()
  t.deepEqual(done, [[3, false]])
  await second.close()
  while (queue.workers.length > 1) await turns()
  // Once it reads again, it takes as many as before.
  side.in.held = false
  fake.made[1]?.wakeSoon()
  while (first.stats().requests < 2) await turns()
  for (let n = 0; n < 3; n++) queue.push(Uint8Array.of(10))
  while (busy < 3) await turns()
  t.is(first.stats().inHand, 3)
})

test('a large job that times out gives its credit back once', async (t) => {
  for (const maxMessage of [1000, 2 ** 24]) {
    const { bus, fake } = fakeBus(t)
    const queue = await bus.queue('jobs', { capacity: 4096, timeout: 300, attempts: 1 })
    let most = 0
    let now = 0
    await bus.worker('jobs', { maxMessage, concurrency: 2 }, async () => {
      most = Math.max(most, ++now)
      await turns(3)
      now--
    })
    while (queue.workers.length === 0) await turns()
    await turns(2)
    const [there, here] = fake.made.map((one) => one.sides.get(0)?.in)
    if (there === undefined || here === undefined) throw new Error('nobody is there')
    const failures: unknown[] = []
    queue.on('deadLetter', (_, { code }) => failures.push(code))
    // What the worker says arrives too late.
    there.held = true
    // The second one waits behind the first, and no worker sees it.
    for (const bytes of [2 ** 23, 1500]) queue.push(new Uint8Array(bytes))
    while (maxMessage === 1000 ? there.items.length === 0 : here.items[0]?.announced !== true) await turns()
    here.held = true
    while (queue.stats().assigned > 0) await turns()
    await turns()
    t.deepEqual(failures, ['ERR_RINGBELL_TIMEOUT'])
    t.is(queue.size, 1)
    there.held = here.held = false
    for (const one of fake.made) one.wakeSoon()
    for (let n = 0; n < 10; n++) queue.push(Uint8Array.of(n))
    await queue.drained()
    t.is(most, 2)
    // One of the workers also refuses the second job, because of its size.
    t.like(queue.stats(), maxMessage === 1000 ? { acknowledged: 10, failed: 2 } : { acknowledged: 11, failed: 1 })
  }
})

test('a job whose error is over the limit has failed', async (t) => {
  const { bus, fake } = fakeBus(t)
  const queue = await bus.queue('jobs', { maxMessage: 1000, attempts: 1 })
  const worker = await bus.worker('jobs', () => new Promise<never>(() => {}))
  queue.push(Uint8Array.of(1))
  while (worker.stats().inHand === 0) await turns()
  const failed = once(queue, 'deadLetter')
  const hot = fake.made[1]?.hot()
  const error = new Uint8Array(2000)
  let done = 0
  while (done < error.byteLength) done = hot?.sendLarge(0, KIND.error, 1, 0, error, done) ?? Infinity
  t.like((await failed)[1], { code: 'ERR_RINGBELL_MESSAGE_TOO_LARGE' })
  t.like(queue.stats(), { acknowledged: 0, failed: 1 })
})

test('a job that ends its worker does not use up the attempts of its neighbours', async (t) => {
  const { bus, fake } = fakeBus(t)
  const queue = await bus.queue<number>('jobs', { codec: 'json', attempts: 3 })
  const given: number[] = []
  queue.on('deadLetter', (n) => given.push(n))
  const done: number[] = []
  const begun: number[] = []
  const hire = (): Promise<unknown> => {
    const at = fake.made.length
    return bus.worker<number>('jobs', { codec: 'json', concurrency: 4 }, async (n) => {
      begun.push(n)
      await turns(4)
      if (n === 2) {
        fake.made[at]?.die()
        await hire()
      }
      // What a dead worker does is lost.
      if (fake.made[at]?.closed === false) done.push(n)
    })
  }
  for (let n = 0; n < 12; n++) queue.push(n)
  await hire()
  await queue.drained()
  await turns()
  t.deepEqual(given, [2])
  t.is(begun.filter((n) => n === 2).length, 3)
  t.like(queue.stats(), { acknowledged: 11, failed: 1, waiting: 0, assigned: 0 })
  t.deepEqual(
    [...new Set(done)].sort((a, b) => a - b),
    [0, 1, 3, 4, 5, 6, 7, 8, 9, 10, 11],
  )
})

test('jobs that were lost with a worker go to different workers', async (t) => {
  const { bus, fake } = fakeBus(t)
  const queue = await bus.queue<number>('jobs', { codec: 'json' })
  const begun: number[] = []
  await bus.worker<number>('jobs', { codec: 'json', concurrency: 4 }, async (n) => {
    begun.push(n)
    await new Promise(() => {})
  })
  for (let n = 0; n < 4; n++) queue.push(n)
  while (begun.length < 4) await turns()
  fake.made[1]?.die()
  const inHand = [new Set<number>(), new Set<number>()]
  let most = 0
  for (const mine of inHand)
    await bus.worker<number>('jobs', { codec: 'json', concurrency: 4 }, async (n) => {
      mine.add(n)
      most = Math.max(most, mine.size)
      await turns(3)
      mine.delete(n)
    })
  await queue.drained()
  t.is(most, 1)
  t.like(queue.stats(), { acknowledged: 4, redelivered: 4, failed: 0 })
})
