/** What a queue does with single jobs, over the fake: results, delays, dead letters; and its counters in another process. */
import { once } from 'node:events'
import test from 'ava'
import type { Codec, QueueStats } from 'ringbell'
import { KIND } from '../../../src/channel/wire.js'
import { fakeBus, turns } from '../../helpers/fake-channel.js'
import { PATIENCE_MS } from '../../helpers/patience.js'

/** Every accepted message is in one place. */
function sum({ waiting, delayed, assigned, acknowledged, failed, withdrawn }: QueueStats): number {
  return waiting + delayed + assigned + acknowledged + failed + withdrawn
}

test('run resolves with what the handler returned; push lets it return anything', async (t) => {
  const { bus } = fakeBus(t)
  const queue = await bus.queue<number>('jobs', { codec: 'json' })
  const returned: unknown[] = []
  await bus.worker<number>('jobs', { codec: 'json', concurrency: 4 }, async (n) => {
    const result = n === 0 ? undefined : n < 0 ? 1n : { square: n * n }
    returned.push(result)
    return result
  })
  t.deepEqual(await Promise.all([3, 0, 4].map((n) => queue.run(n))), [{ square: 9 }, undefined, { square: 16 }])
  // JSON cannot carry it, and nobody has asked for it.
  queue.push(-1)
  await queue.drained()
  t.is(returned.at(-1), 1n)
  t.like(queue.stats(), { pushed: 4, acknowledged: 4, redelivered: 0 })
  const bytes = await bus.queue('bytes')
  await bus.worker('bytes', (data) => data.subarray(1))
  t.deepEqual(await bytes.run<Uint8Array>(Uint8Array.of(1, 2, 3)), Uint8Array.of(2, 3))
})

test('run rejects with the error of the last attempt, which is no dead letter', async (t) => {
  const { bus } = fakeBus(t)
  const queue = await bus.queue<number>('jobs', { codec: 'json', attempts: 2 })
  const told: unknown[] = []
  queue.on('deadLetter', (n) => told.push(n))
  let tries = 0
  await bus.worker<number>('jobs', { codec: 'json' }, (n) => {
    tries++
    if (n === 1) throw Object.assign(new Error('poison'), { code: 'E_POISON' })
    return n === 2 ? 1n : n
  })
  await t.throwsAsync(queue.run(1), { name: 'RemoteError', code: 'E_POISON', message: 'poison' })
  await t.throwsAsync(queue.run(2), { name: 'RemoteError', message: /BigInt/ })
  t.is(tries, 4)
  t.is(await queue.run(3), 3)
  t.deepEqual([queue.deadLetters, told], [[], []])
  t.like(queue.stats(), { failed: 2, redelivered: 2, acknowledged: 1, deadLetters: 0 })
})

test('a result that the queue cannot take is told to its caller, and the job is done', async (t) => {
  const { bus } = fakeBus(t)
  const codec: Codec<number> = {
    id: 'one-byte',
    encode: (n) => new Uint8Array(n),
    decode: (data) => {
      if (data.byteLength === 7) throw new Error('not mine')
      return data.byteLength
    },
  }
  const queue = await bus.queue('jobs', { codec, maxMessage: 1000 })
  const plain: Codec<number> = { ...codec, decode: (data) => data.byteLength }
  await bus.worker('jobs', { codec: plain }, (n) => n)
  await t.throwsAsync(queue.run(7), { code: 'ERR_RINGBELL_CODEC' })
  await t.throwsAsync(queue.run(2000), { code: 'ERR_RINGBELL_MESSAGE_TOO_LARGE' })
  t.is(await queue.run(5), 5)
  t.like(queue.stats(), { acknowledged: 3, failed: 0, redelivered: 0 })
})

test('the signal of run takes the job back, wherever it is', async (t) => {
  const { bus } = fakeBus(t)
  const queue = await bus.queue<number>('jobs', { codec: 'json', limit: 3 })
  const seen: number[] = []
  const control = new AbortController()
  const { signal } = control
  const aborted = (n: number, delay = 0): Promise<unknown> =>
    t.throwsAsync(queue.run(n, { signal, delay }), { name: 'AbortError' })
  let fired = 0
  let release = (): void => {}
  await bus.worker<number>('jobs', { codec: 'json' }, async (n, context) => {
    seen.push(n)
    context.signal.addEventListener('abort', () => fired++)
    if (n === 1) await new Promise<void>((done) => (release = done))
  })
  const all = [aborted(1)]
  while (seen.length === 0) await turns()
  // One waits, one is delayed, and one waits for room.
  all.push(aborted(2), aborted(3, 60_000), aborted(4))
  t.like(queue.stats(), { assigned: 1, waiting: 1, delayed: 1, pushed: 3 })
  control.abort()
  await Promise.all(all)
  t.is(queue.size, 0)
  t.like(queue.stats(), { withdrawn: 3, pushed: 3 })
  await queue.drained()
  while (fired === 0) await turns()
  release()
  // The worker takes jobs as before.
  queue.push(5)
  await queue.drained()
  t.deepEqual(seen, [1, 5])
  await t.throwsAsync(queue.run(6, { signal }), { name: 'AbortError' })
})

test('a queue that closes rejects what was to be run, also what is delayed', async (t) => {
  const { bus } = fakeBus(t)
  const queue = await bus.queue<number>('jobs', { codec: 'json', limit: 3 })
  const closed = { code: 'ERR_RINGBELL_CLOSED' }
  await bus.worker<number>('jobs', { codec: 'json' }, () => new Promise(() => {}))
  const all = [0, 0, 60_000, 0].map((delay, n) => t.throwsAsync(queue.run(n, { delay }), closed))
  while (queue.stats().assigned === 0) await turns()
  await queue.close()
  await Promise.all(all)
  t.is(queue.size, 0)
})

test('a delayed job comes when its time is over, after those that wait, and counts for the limit', async (t) => {
  const { bus } = fakeBus(t)
  const queue = await bus.queue<number>('jobs', { codec: 'json', limit: 3 })
  const seen: number[] = []
  await bus.worker<number>('jobs', { codec: 'json' }, (n, { redelivered }) => {
    t.false(redelivered)
    seen.push(n)
  })
  const begin = performance.now()
  t.true(queue.push(1, { delay: 40 }))
  t.true(queue.push(2, { delay: 20 }))
  t.true(queue.push(3))
  t.false(queue.push(4))
  t.like(queue.stats(), { delayed: 2, waiting: 1 })
  t.is(queue.size, 3)
  await queue.drained()
  t.deepEqual(seen, [3, 2, 1])
  t.true(performance.now() - begin >= 40)
  t.throws(() => queue.push(1, { delay: -1 }), { code: 'ERR_RINGBELL_INVALID_OPTION' })
  t.throws(() => queue.push(1, { priority: 1 } as object), { code: 'ERR_RINGBELL_INVALID_OPTION' })
})

test('with backoff a failed job is delayed before its next attempt, and others are not', async (t) => {
  const { bus } = fakeBus(t)
  const long = await bus.queue<number>('long', {
    codec: 'json',
    attempts: 2,
    backoff: { delay: 60_000, maxDelay: 60_000 },
  })
  const seen: number[] = []
  await bus.worker<number>('long', { codec: 'json' }, (n) => {
    seen.push(n)
    if (n === 1) throw new Error('not yet')
  })
  for (const n of [1, 2, 3]) long.push(n)
  while (long.size > 1) await turns()
  t.deepEqual(seen, [1, 2, 3])
  t.like(long.stats(), { delayed: 1, acknowledged: 2, waiting: 0, redelivered: 0 })

  const short = await bus.queue('short', { attempts: 3, backoff: { delay: 20, maxDelay: 30 } })
  const at: number[] = []
  await bus.worker('short', () => {
    at.push(performance.now())
    throw new Error('never')
  })
  short.push(Uint8Array.of(1))
  await short.drained()
  // They vary by a quarter.
  const [first = 0, second = 0, third = 0] = at
  t.true(second - first >= 15 && third - second >= 22)
  t.is(short.deadLetters[0]?.attempts, 3)
})

test('dead letters are kept, retried and discarded', async (t) => {
  const { bus } = fakeBus(t)
  const queue = await bus.queue<{ n: number }>('jobs', { codec: 'json', attempts: 1, limit: 4 })
  let broken = true
  const done: number[] = []
  await bus.worker<{ n: number }>('jobs', { codec: 'json' }, ({ n }, { redelivered }) => {
    t.false(redelivered)
    if (broken) throw Object.assign(new Error('broken'), { code: 'E_BROKEN' })
    done.push(n)
  })
  const given = once(queue, 'deadLetter')
  for (const n of [1, 2, 3]) queue.push({ n })
  await queue.drained()
  const letters = queue.deadLetters
  t.is((await given)[2], letters[0])
  t.like(letters[0], { job: { n: 1 }, attempts: 1, error: { code: 'E_BROKEN', message: 'broken' } })
  broken = false
  const [first, second, third] = letters
  if (first === undefined || second === undefined || third === undefined) throw new Error('there should be three')
  t.true(queue.retry(first))
  t.true(queue.discard(second))
  t.false(queue.discard(second))
  t.throws(() => queue.retry(first), { code: 'ERR_RINGBELL_NOT_FOUND' })
  await queue.drained()
  t.deepEqual(done, [1])
  // A full queue takes none, and the letter stays.
  for (let n = 0; n < 4; n++) queue.push({ n }, { delay: 60_000 })
  t.false(queue.retry(third))
  t.deepEqual(queue.deadLetters, [third])
  t.like(queue.stats(), { failed: 3, acknowledged: 1, deadLetters: 1, deadLettersDropped: 0 })
  t.is(sum(queue.stats()), queue.stats().pushed)
  await queue.close()
  t.deepEqual(queue.deadLetters, [third])
  t.throws(() => queue.retry(third), { code: 'ERR_RINGBELL_CLOSED' })
})

test('the oldest dead letters are dropped and counted, by number and by bytes', async (t) => {
  const { bus } = fakeBus(t)
  for (const [deadLetters, bytes, kept] of [
    [2, 1, [3, 4]],
    [0, 1, []],
    [100, 2 ** 24 + 1, [2, 3, 4]],
  ] as const) {
    const queue = await bus.queue(`jobs-${deadLetters}`, { attempts: 1, deadLetters, capacity: 2 ** 16 })
    await bus.worker(`jobs-${deadLetters}`, { maxMessage: 2 ** 25 }, () => {
      throw new Error('no')
    })
    for (let n = 0; n < 5; n++) queue.push(new Uint8Array(bytes).fill(n))
    await queue.drained()
    t.deepEqual(
      queue.deadLetters.map(({ job }) => job[0]),
      [...kept],
    )
    t.like(queue.stats(), { failed: 5, deadLetters: kept.length, deadLettersDropped: 5 - kept.length })
    await queue.close()
  }
})

test('counters of queues and servers, asked for from outside: nobody sees a worker', async (t) => {
  const { bus } = fakeBus(t)
  const queue = await bus.queue<string>('mixed', { codec: 'json', attempts: 1 })
  const seen: unknown[] = []
  queue.on('connected', (worker) => seen.push(worker))
  const empty = await bus.queue('mixed')
  await bus.serve('mixed', { codec: 'structured' }, () => {})
  queue.push('a')
  queue.push('b', { delay: 60_000 })
  const [server, first, second, ...more] = await bus.counters('mixed')
  t.deepEqual(more, [])
  t.like(server, { service: { kind: 'server' }, server: { requests: 0 }, queue: undefined, error: undefined })
  t.like(first, {
    service: { id: queue.service.id },
    queue: { workers: 0, waiting: 1, delayed: 1, pushed: 2, letters: [] },
  })
  t.like(second, { service: { id: empty.service.id }, queue: { pushed: 0 } })
  t.deepEqual([queue.workers, queue.stats().workers, seen], [[], 0, []])
  await bus.worker<string>('mixed', { codec: 'json' }, () => {
    throw Object.assign(new Error('broken'), { code: 'E_BROKEN' })
  })
  while (queue.deadLetters.length === 0) await turns()
  const again = (await bus.counters('mixed')).find(({ service }) => service.id === queue.service.id)
  t.deepEqual(again?.queue?.letters, [
    { bytes: 3, head: Buffer.from('"a"').toString('base64'), code: 'E_BROKEN', message: 'broken', attempts: 1 },
  ])
  t.like(again?.queue, { workers: 1, failed: 1, deadLetters: 1 })
  t.deepEqual(await bus.counters('nobody'), [])
})

test('a queue that does not answer, or refuses, is told as such', async (t) => {
  const { bus, fake } = fakeBus(t)
  await bus.queue('jobs')
  fake.refusing = true
  t.like((await bus.counters('jobs'))[0]?.error, { code: 'ERR_RINGBELL_REFUSED' })
  fake.refusing = false
  const [there] = fake.made
  if (there === undefined) throw new Error('nobody is there')
  const closed = new AbortController()
  const asked = bus.counters('jobs', { signal: closed.signal })
  closed.abort()
  await t.throwsAsync(asked, { name: 'AbortError' })
  // Its process has stopped: it drains nothing.
  there.target = undefined
  t.like((await bus.counters('jobs', { timeout: 30 }))[0]?.error, { code: 'ERR_RINGBELL_TIMEOUT' })
})

test('who asks for counters again and again without reading is disconnected', async (t) => {
  const { bus, fake } = fakeBus(t)
  const queue = await bus.queue('jobs')
  const failed = once(queue, 'failed')
  const asking = bus.counters('jobs')
  while (fake.made.at(-1)?.sides.get(0) === undefined) await turns(1)
  const asker = fake.made.at(-1)
  const side = asker?.sides.get(0)
  if (asker === undefined || side === undefined) throw new Error('nobody asks')
  side.in.held = true
  for (let id = 1; id < 3000; id++) asker.inject(0, KIND.request | (4 << 8), id, 0, new Uint8Array())
  t.like((await failed)[0], { code: 'ERR_RINGBELL_CORRUPT_PEER' })
  await asking
})

test('a bus that is closed ends the question for counters', async (t) => {
  const { bus, fake } = fakeBus(t)
  await bus.queue('jobs')
  const [there] = fake.made
  if (there === undefined) throw new Error('nobody is there')
  // Its process has stopped: it drains nothing.
  there.target = undefined
  const asked = bus.counters('jobs', { timeout: PATIENCE_MS })
  await bus.close()
  await t.throwsAsync(asked, { name: 'RingbellError', code: 'ERR_RINGBELL_CLOSED' })
})

test('drained waits for a job that a listener of deadLetter tries again', async (t) => {
  const { bus } = fakeBus(t)
  const queue = await bus.queue<number>('again', { codec: 'json', attempts: 1 })
  let open = false
  const done: number[] = []
  await bus.worker<number>('again', { codec: 'json' }, async (n) => {
    if (!open) throw new Error('closed')
    await turns(3)
    done.push(n)
  })
  queue.on('deadLetter', (_job, _error, letter) => {
    open = true
    t.true(queue.retry(letter))
  })
  queue.push(1)
  await queue.drained()
  t.deepEqual([done, queue.size], [[1], 0])

  // The end of the queue ends this wait, too.
  open = false
  queue.removeAllListeners('deadLetter').once('deadLetter', (_job, _error, letter) => {
    queue.retry(letter, { delay: PATIENCE_MS })
    setImmediate(() => void queue.close())
  })
  queue.push(2)
  await t.throwsAsync(queue.drained(), { code: 'ERR_RINGBELL_CLOSED' })
})

test('what is not a dead letter of this queue cannot be tried again; a closed one has no counters', async (t) => {
  const { bus } = fakeBus(t)
  const queue = await bus.queue<number>('one', { codec: 'json', attempts: 1 })
  await bus.worker<number>('one', { codec: 'json' }, () => {
    throw new Error('no')
  })
  queue.push(1)
  await queue.drained()
  const [letter] = queue.deadLetters
  for (const other of [undefined, 1, { ...letter }])
    t.throws(() => queue.retry(other as never), {
      code: 'ERR_RINGBELL_NOT_FOUND',
      message: /^This is no dead letter of this queue, or no longer/,
    })
  await queue.close()
  t.throws(() => queue.stats(), { code: 'ERR_RINGBELL_CLOSED', message: 'This queue is closed; open a new one.' })
})
