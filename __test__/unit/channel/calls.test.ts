/** Calls over the fake: what a caller and a handler see at every moment that something can go wrong. */
import { once } from 'node:events'
import { MessageChannel } from 'node:worker_threads'
import test from 'ava'
import type { RemoteError, RingbellError } from 'ringbell'
import { fakeBus, type FakeChannel, turns } from '../../helpers/fake-channel.js'
import { transferTo } from '../../helpers/transfer.js'

const text = (value: string): Uint8Array => Buffer.from(value)
const never = new Promise<never>(() => {})

async function codes(error: unknown): Promise<[string | undefined, string | undefined]> {
  const { code, cause } = (await error) as RingbellError
  return [code, (cause as { code?: string } | undefined)?.code]
}

/** What a promise rejects with; a test that expects it to reject fails otherwise. */
async function failure(promise: Promise<unknown>): Promise<RingbellError> {
  try {
    await promise
  } catch (error) {
    return error as RingbellError
  }
  throw new Error('it did not reject')
}

test('a call brings the reply, and many in flight each their own', async (t) => {
  const { bus } = fakeBus(t)
  await bus.serve('echo', { codec: 'json' }, async (value) => ({ value }))
  const client = await bus.connect<number, { value: number }>('echo', { codec: 'json' })
  t.deepEqual(await client.call(1), { value: 1 })
  const many = await Promise.all(Array.from({ length: 10_000 }, (_, n) => client.call(n)))
  t.true(many.every(({ value }, n) => value === n))
  t.is(client.stats().inFlight, 0)
})

test('handlers may answer at once, later, with nothing; bytes are bytes', async (t) => {
  const { bus } = fakeBus(t)
  await bus.serve('sync', (request) => request.subarray(1))
  const client = await bus.connect('sync')
  t.deepEqual(await client.call(text('abc')), new Uint8Array(text('bc')))
  await bus.serve('void', { codec: 'json' }, () => {})
  const nothing = await bus.connect('void', { codec: 'json' })
  t.is(await nothing.call(1), undefined)
  await bus.serve('empty', async () => {})
  t.is((await (await bus.connect('empty')).call(text('x'))).byteLength, 0)
})

test('errors keep code, name and message, whatever was thrown', async (t) => {
  const { bus } = fakeBus(t)
  const thrown: unknown[] = [
    Object.assign(new TypeError('no such row'), { code: 'E_ROW' }),
    'text',
    null,
    {
      get message() {
        throw new Error('gotcha')
      },
    },
    Object.assign(new Error('x'.repeat(100_000)), { code: 7 }),
  ]
  await bus.serve('bad', { codec: 'json' }, async (n) => {
    throw thrown[n as number]
  })
  const client = await bus.connect('bad', { codec: 'json' })
  const errors = (await Promise.all(thrown.map((_, n) => failure(client.call(n))))) as unknown as RemoteError[]
  t.deepEqual(
    errors.map(({ name, code, remoteName }) => [name, code, remoteName]),
    [
      ['RemoteError', 'E_ROW', 'TypeError'],
      ['RemoteError', undefined, 'Error'],
      ['RemoteError', undefined, 'Error'],
      ['RemoteError', undefined, 'Error'],
      ['RemoteError', '7', 'Error'],
    ],
  )
  t.is(errors[0]?.message, 'no such row')
  t.is(errors[1]?.message, 'text')
  t.is(errors[4]?.message.length, 8192)
})

test('a reply that the codec cannot encode is an error of that call alone', async (t) => {
  const { bus } = fakeBus(t)
  await bus.serve('odd', { codec: 'json' }, async (n) => (n === 0 ? 1n : n))
  const client = await bus.connect('odd', { codec: 'json' })
  const [bad, good] = await Promise.allSettled([client.call(0), client.call(1)])
  t.like(bad, { status: 'rejected', reason: { code: 'ERR_RINGBELL_REMOTE', remoteCode: 'ERR_RINGBELL_CODEC' } })
  t.like(good, { status: 'fulfilled', value: 1 })
  await bus.serve('string', async () => 'no bytes' as unknown as Uint8Array)
  t.is((await failure((await bus.connect('string')).call(text('x')))).code, 'ERR_RINGBELL_REMOTE')
  const wrong = client.call(1n)
  t.is((await failure(wrong)).code, 'ERR_RINGBELL_CODEC')
  t.is(await client.call(3), 3)
})

test('a timeout ends the call and reaches the handler; so does a signal', async (t) => {
  const { bus } = fakeBus(t)
  const timeouts: unknown[] = []
  const reasons: unknown[] = []
  const server = await bus.serve('slow', async (_request, { signal, timeout }) => {
    timeouts.push(timeout)
    await once(signal, 'abort')
    reasons.push((signal.reason as RingbellError).code)
    return text('too late')
  })
  const client = await bus.connect('slow')
  t.deepEqual(await codes(failure(client.call(text('x'), { timeout: 20 }))), [
    'ERR_RINGBELL_TIMEOUT',
    'ERR_RINGBELL_OUTCOME_UNKNOWN',
  ])
  const control = new AbortController()
  const call = client.call(text('x'), { signal: control.signal })
  while (timeouts.length < 2) await turns()
  control.abort(new Error('enough'))
  t.like(await failure(call), { name: 'AbortError', code: 'ABORT_ERR', cause: { message: 'enough' } })
  while (server.stats().inHand > 0) await turns()
  t.deepEqual(timeouts, [20, undefined])
  t.deepEqual(reasons, ['ERR_RINGBELL_ABORTED', 'ERR_RINGBELL_ABORTED'])
  t.like(server.stats(), { cancelled: 2, replies: 0, inHand: 0 })
})

test('without a server a call waits; its timeout says that it was not sent', async (t) => {
  const { bus } = fakeBus(t)
  const client = await bus.connect('later', { timeout: 20 })
  t.deepEqual(await codes(failure(client.call(text('x')))), ['ERR_RINGBELL_TIMEOUT', 'ERR_RINGBELL_NOT_SENT'])
  const call = client.call(text('x'), { timeout: 60_000 })
  await turns(3)
  t.is(client.stats().waiting, 1)
  await bus.serve('later', (request) => request)
  t.is((await call).byteLength, 1)
})

test('a signal that has fired, at every moment', async (t) => {
  const { bus } = fakeBus(t)
  const served: unknown[] = []
  const client = await bus.connect('x')
  t.is((await failure(client.call(text('x'), { signal: AbortSignal.abort() }))).name, 'AbortError')
  const waiting = new AbortController()
  const call = client.call(text('x'), { signal: waiting.signal })
  waiting.abort()
  t.is((await failure(call)).name, 'AbortError')
  await bus.serve('x', (request) => {
    served.push(request)
    return request
  })
  await client.connected()
  const sent = new AbortController()
  const late = client.call(text('x'), { signal: sent.signal })
  sent.abort()
  t.is((await failure(late)).name, 'AbortError')
  await turns(3)
  const done = new AbortController()
  await client.call(text('y'), { signal: done.signal })
  done.abort()
  t.is(served.length, 2, 'what was sent before it was aborted has been served')
  t.is(client.stats().inFlight, 0)
})

test('a full ring holds calls back in order; an aborted call is not sent', async (t) => {
  const { bus, fake } = fakeBus(t)
  const seen: number[] = []
  await bus.serve('tight', { capacity: 4096 }, (request) => {
    seen.push(request[0] as number)
    return request.subarray(0, 1)
  })
  const client = await bus.connect('tight')
  await client.connected()
  hold(fake.made[0], true)
  const control = new AbortController()
  const calls = Array.from({ length: 20 }, (_, n) =>
    client.call(new Uint8Array(1000).fill(n), n === 10 ? { signal: control.signal } : {}),
  )
  const aborted = failure(calls[10] as Promise<unknown>)
  control.abort()
  t.is((await aborted).name, 'AbortError')
  hold(fake.made[0], false)
  const replies = await Promise.allSettled(calls)
  t.is(replies.filter(({ status }) => status === 'fulfilled').length, 19)
  t.deepEqual(
    seen,
    Array.from({ length: 20 }, (_, n) => n).filter((n) => n !== 10),
  )
})

/** Its reader takes nothing. */
function hold(channel: FakeChannel | undefined, held: boolean): void {
  for (const side of channel?.sides.values() ?? []) {
    side.in.held = held
    if (!held) channel?.arrived()
  }
}

test('a dead server: taken calls are unknown, the others not sent', async (t) => {
  const { bus, fake } = fakeBus(t)
  await bus.serve('mortal', { capacity: 4096 }, () => never)
  const client = await bus.connect('mortal')
  const gone = once(client, 'disconnected')
  await client.connected()
  const taken = client.call(text('taken'))
  await turns(3)
  hold(fake.made[0], true)
  const unread = client.call(text('unread'))
  const queued = Array.from({ length: 8 }, () => client.call(new Uint8Array(1000)))
  const errors = [taken, unread, ...queued].map(failure)
  await turns()
  fake.made[0]?.die()
  const [first, ...rest] = (await Promise.all(errors)).map(({ code }) => code)
  t.is(first, 'ERR_RINGBELL_OUTCOME_UNKNOWN')
  t.true(rest.every((code) => code === 'ERR_RINGBELL_NOT_SENT'))
  t.is((await gone)[1], 'died')
  t.is(client.stats().inFlight, 0)
})

test('idempotent calls are made again on the next server, and say so', async (t) => {
  const { bus, fake } = fakeBus(t)
  await bus.serve('group', { codec: 'json' }, () => never)
  const client = await bus.connect('group', { codec: 'json' })
  const again = client.call(1, { idempotent: true })
  const once_ = failure(client.call(2))
  await turns(3)
  await bus.serve('group', { codec: 'json' }, (value, { redelivered }) => [value, redelivered])
  fake.made[0]?.die()
  t.deepEqual(await again, [1, true])
  t.is((await once_).code, 'ERR_RINGBELL_OUTCOME_UNKNOWN')
  t.is(client.stats().repeated, 1)
})

test('a client that dies with 10,000 calls in flight aborts every signal', async (t) => {
  const { bus, fake } = fakeBus(t)
  let aborted = 0
  const server = await bus.serve('loaded', { codec: 'json' }, async (_value, { signal }) => {
    signal.addEventListener('abort', () => aborted++)
    await never
  })
  const client = await bus.connect('loaded', { codec: 'json' })
  for (let n = 0; n < 10_000; n++) client.call(n).catch(() => {})
  while (server.stats().inHand < 10_000) await turns()
  fake.made[1]?.die()
  while (server.connections.length > 0) await turns()
  t.is(aborted, 10_000)
  t.like(server.stats(), { inHand: 0, cancelled: 10_000 })
})

test('requests beyond maxRequests are refused one by one', async (t) => {
  const { bus } = fakeBus(t)
  const answers: (() => void)[] = []
  await bus.serve('busy', { codec: 'json', maxRequests: 2 }, () => new Promise<void>((done) => answers.push(done)))
  const client = await bus.connect('busy', { codec: 'json' })
  const calls = [1, 2, 3].map((n) => client.call(n))
  t.is((await failure(calls[2] as Promise<unknown>)).code, 'ERR_RINGBELL_BUSY')
  for (const answer of answers) answer()
  await Promise.all(calls.slice(0, 2))
})

test('close fails all pending calls on either side', async (t) => {
  const { bus } = fakeBus(t)
  const server = await bus.serve('ending', async () => never)
  const client = await bus.connect('ending')
  const other = await bus.connect('nobody')
  const call = failure(client.call(text('x')))
  await turns(3)
  const pending = [call, failure(other.call(text('x'))), failure(other.connected())]
  await client.close()
  await other.close()
  for (const error of pending) t.is((await error).code, 'ERR_RINGBELL_CLOSED')
  t.is((await failure(client.call(text('x')))).code, 'ERR_RINGBELL_CLOSED')
  t.throws(() => client.stream(text('x')), { code: 'ERR_RINGBELL_CLOSED' })
  while (server.connections.length > 0) await turns()
})

test('a closing server finishes its calls; new ones go elsewhere', async (t) => {
  const { bus } = fakeBus(t)
  let answer = (): void => {}
  const first = await bus.serve<number, string>('rolling', { codec: 'json' }, (value) => {
    return new Promise<string>((done) => (answer = () => done(`first ${value}`)))
  })
  const client = await bus.connect('rolling', { codec: 'json' })
  const inHand = client.call(1)
  await turns(3)
  await bus.serve<number, string>('rolling', { codec: 'json' }, (value) => `second ${value}`)
  const closing = first.close({ grace: 60_000 })
  t.is(await client.call(2), 'second 2')
  answer()
  t.is(await inHand, 'first 1')
  await closing
  t.is(await client.call(3), 'second 3')
})

test('large requests and replies go in pieces, also with into', async (t) => {
  const { bus } = fakeBus(t)
  await bus.serve('large', { capacity: 4096, maxMessage: 200_000 }, (request) => request.map((byte) => byte + 1))
  const client = await bus.connect('large', { maxMessage: 150_000 })
  const request = new Uint8Array(100_000).fill(7)
  const [reply, small] = await Promise.all([client.call(request), client.call(text('a'))])
  t.is(reply.byteLength, 100_000)
  t.true(reply.every((byte) => byte === 8))
  t.is(small[0], 98)
  const into = new Uint8Array(100_010)
  const filled = await client.call(request, { into })
  t.is(filled.buffer, into.buffer)
  t.deepEqual([filled.byteLength, into[99_999], into[100_000]], [100_000, 8, 0])
  const short = await client.call(text('abc'), { into })
  t.deepEqual([short.buffer, short.byteLength], [into.buffer, 3])
  t.is((await failure(client.call(text('abc'), { into: new Uint8Array(2) }))).code, 'ERR_RINGBELL_MESSAGE_TOO_LARGE')
  t.is((await failure(client.call(new Uint8Array(250_000)))).code, 'ERR_RINGBELL_MESSAGE_TOO_LARGE', 'for the server')
  t.is((await failure(client.call(new Uint8Array(180_000)))).code, 'ERR_RINGBELL_MESSAGE_TOO_LARGE', 'for us')
  t.is((await client.call(text('z'))).byteLength, 1)
})

test('an aborted large request is not served, and the connection goes on', async (t) => {
  const { bus, fake } = fakeBus(t)
  let served = 0
  await bus.serve('large', { capacity: 4096 }, (request) => {
    served++
    return request.subarray(0, 1)
  })
  const client = await bus.connect('large')
  await client.connected()
  for (const seen of [false, true]) {
    const control = new AbortController()
    hold(fake.made[0], !seen)
    const call = failure(client.call(new Uint8Array(1_000_000).fill(1), { signal: control.signal }))
    await turns(seen ? 20 : 1)
    control.abort()
    t.is((await call).name, 'AbortError')
    hold(fake.made[0], false)
    t.is((await client.call(Uint8Array.of(5)))[0], 5)
  }
  t.is(served, 2)
})

test('an error of options names the option', async (t) => {
  const { bus } = fakeBus(t)
  const client = await bus.connect('x', { codec: 'json' })
  const wrong: Record<string, unknown>[] = [
    { timeout: -1 },
    { timeOut: 1 },
    { idempotent: 1 },
    { into: new Uint8Array(1) },
  ]
  for (const options of wrong) t.is((await failure(client.call(1, options))).code, 'ERR_RINGBELL_INVALID_OPTION')
  await t.throwsAsync(bus.connect('x', { route: 'random' as never }), { code: 'ERR_RINGBELL_INVALID_OPTION' })
  await t.throwsAsync(bus.serve('x', {}, 'handler' as never), { code: 'ERR_RINGBELL_INVALID_OPTION' })
  const swapped = [() => undefined, { codec: 'json' }] as never[]
  await t.throwsAsync(bus.serve('x', ...(swapped as [never, never])), { message: /last, after the options/ })
  await t.throwsAsync(bus.connect('no name'), { code: 'ERR_RINGBELL_INVALID_NAME' })
  t.is(client.stats().inFlight, 0)
})

/** Objects that throw when they are looked at. */
function hostile(): Record<string, unknown> {
  const { proxy, revoke } = Proxy.revocable({}, {})
  revoke()
  // By name the linter forbids it, with reason.
  const then = ['th', 'en'].join('')
  const trap = (): never => {
    throw proxy
  }
  return {
    'strict proxy': new Proxy<object>(
      { id: 1 },
      {
        get(target, key) {
          if (!(key in target)) throw new Error(`no ${String(key)}`)
          return Reflect.get(target, key) as unknown
        },
      },
    ),
    'revoked proxy': proxy,
    'throwing then': Object.defineProperty({}, then, { get: trap }),
    'then that throws when called': { [then]: trap },
    'promise with a then that throws': Object.assign(Promise.resolve(1), { [then]: trap }),
    'throwing iterator': Object.defineProperty({}, Symbol.asyncIterator, { get: trap }),
    'iterator that is none': { [Symbol.asyncIterator]: () => 1 },
    'throwing toJSON': { toJSON: trap },
  }
}

test('a failed answer of a handler fails only its own request', async (t) => {
  const { bus } = fakeBus(t)
  const objects = hostile()
  const server = await bus.serve<unknown, unknown>('odd', { codec: 'json' }, (request) => {
    const { how, what } = request as { how: string; what: string }
    const one = objects[what]
    if (how === 'throw') throw one
    if (how === 'reject') return new Promise((_resolve, reject) => reject(one))
    if (how === 'later') return new Promise((resolve) => setImmediate(() => resolve(one)))
    return how === 'return' ? one : request
  })
  const client = await bus.connect<object, object>('odd', { codec: 'json' })
  const calls = ['return', 'later', 'throw', 'reject'].flatMap((how) =>
    Object.keys(objects).map(async (what) => {
      const [bad, good, streamed] = await Promise.allSettled([
        client.call({ how, what }),
        client.call({ how: 'echo', what }),
        client.stream({ how, what }).next(),
      ])
      return { how, what, bad: bad.status, good: good.status, streamed: streamed.status }
    }),
  )
  for (const { how, what, ...outcome } of await Promise.all(calls))
    t.deepEqual(outcome, { bad: 'rejected', good: 'fulfilled', streamed: 'rejected' }, `${how} ${what}`)
  t.like(server.stats(), { connections: 1, inHand: 0 })
  t.is(client.stats().inFlight, 0)
})

test('a stream whose request fails its schema rejects', async (t) => {
  const { bus } = fakeBus(t)
  await bus.serve<unknown, unknown>('odd', { codec: 'json' }, (request) => request)
  const refusing = {
    '~standard': {
      version: 1 as const,
      vendor: 'test',
      validate: () => ({ issues: [{ message: 'no' }] }),
    },
  }
  const client = await bus.connect('odd', { codec: 'json', requests: refusing })
  const first = client.stream({}).next()
  t.is((await failure(first)).code, 'ERR_RINGBELL_SCHEMA')
  t.is(client.stats().inFlight, 0)
})

test('a request or reply can be transferred without harm to others', async (t) => {
  const { bus } = fakeBus(t)
  const { port1, port2 } = new MessageChannel()
  t.teardown(() => port1.close())
  port2.unref()
  const transfer = transferTo(port1)
  for (const codec of ['bytes', 'structured'] as const) {
    await bus.serve<Uint8Array, Uint8Array>(codec, { codec: codec as 'structured' }, async (request) => {
      const copy = Buffer.from(request)
      transfer(request)
      return copy
    })
    const client = await bus.connect<Uint8Array, Uint8Array>(codec, { codec: codec as 'structured' })
    for (let round = 0; round < 3; round++) {
      const replies = await Promise.all(Array.from({ length: 30 }, (_, n) => client.call(Uint8Array.of(n, round))))
      for (const [n, reply] of replies.entries()) {
        t.deepEqual([...reply], [n, round])
        transfer(reply)
      }
    }
  }
  await bus.serve('void', () => {})
  const client = await bus.connect('void')
  for (let round = 0; round < 3; round++) transfer(await client.call(text('x')))
})

test('a message that waits for room that comes and goes is sent, even if no call waits for an answer', async (t) => {
  const { bus, fake } = fakeBus(t)
  let given = false
  const server = await bus.serve('calls', (_request, { signal }) => {
    signal.addEventListener('abort', () => (given = true))
    return never
  })
  const client = await bus.connect('calls')
  const control = new AbortController()
  const call = client.call(text('x'), { signal: control.signal })
  while (server.stats().inHand === 0) await turns()
  await turns(3)
  const [there, here] = fake.made
  const ring = there?.sides.get(0)?.in
  if (ring === undefined || here === undefined) throw new Error('nobody is there')
  // A call that arms the doorbell finds room, and a call that sends finds none.
  let asked = here.calls.armRoom
  ring.room = () => asked < (asked = here.calls.armRoom)
  control.abort()
  t.is((await failure(call)).name, 'AbortError')
  await turns(3)
  t.false(given)
  Reflect.deleteProperty(ring, 'room')
  await turns(10)
  t.true(given)
})

test('a server without a handler refuses calls, and takes messages', async (t) => {
  const { bus } = fakeBus(t)
  const server = await bus.serve('mute')
  const client = await bus.connect('mute')
  await t.throwsAsync(client.call(Uint8Array.of(1)), { code: 'ERR_RINGBELL_NOT_FOUND' })
  t.like(server.stats(), { requests: 1, replies: 0, errors: 1 })
  t.true((await client.connected()).send(Uint8Array.of(2)))
})
