/** Errors of handlers, as their callers see them: what they carry, and that nobody takes them for errors of the call itself. */
import { once } from 'node:events'
import { runInNewContext } from 'node:vm'
import test from 'ava'
import { AbortError, type Client, RemoteError, RingbellError } from '../../../src/index.js'
import { decodeError, encodeFailure } from '../../../src/channel/remote-error.js'
import { fakeBus } from '../../helpers/fake-channel.js'

async function failure(promise: Promise<unknown>): Promise<RemoteError> {
  const error: unknown = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  )
  if (error instanceof RemoteError) return error
  throw new Error('no RemoteError', { cause: error })
}

const CODES = ['ERR_RINGBELL_NOT_SENT', 'ERR_RINGBELL_TIMEOUT', 'ERR_RINGBELL_NOT_FOUND', 'ERR_RINGBELL_CODEC'] as const

test("an error of ringbell that a handler lets through is not the caller's own", async (t) => {
  const { bus } = fakeBus(t)
  await bus.serve<number, number>('throws', { codec: 'json' }, (n) => {
    throw n < CODES.length ? new RingbellError(CODES[n] ?? 'ERR_RINGBELL_BUSY', 'inner') : new AbortError('enough')
  })
  const client = await bus.connect<number, number>('throws', { codec: 'json' })
  for (const [n, remoteCode] of [...CODES, 'ABORT_ERR'].entries()) {
    t.like(await failure(client.call(n)), { code: 'ERR_RINGBELL_REMOTE', remoteCode })
    t.like(await failure(client.stream(n).next()), { code: 'ERR_RINGBELL_REMOTE', remoteCode })
  }
  // By way of a gateway, it is still the first code that counts.
  await bus.serve<number, number>('gateway', { codec: 'json' }, (n) => client.call(n))
  const outer = await bus.connect<number, number>('gateway', { codec: 'json' })
  t.like(await failure(outer.call(0)), { code: 'ERR_RINGBELL_REMOTE', remoteCode: 'ERR_RINGBELL_NOT_SENT' })
})

test('so it is with the handler of a worker', async (t) => {
  const { bus } = fakeBus(t)
  const queue = await bus.queue('jobs', { attempts: 1 })
  const given = once(queue, 'deadLetter')
  await bus.worker('jobs', () => {
    throw new RingbellError('ERR_RINGBELL_TIMEOUT', 'inner')
  })
  queue.push(new Uint8Array(1))
  t.like((await given)[1], { code: 'ERR_RINGBELL_REMOTE', remoteCode: 'ERR_RINGBELL_TIMEOUT' })
})

test('codes of their own, causes and fields come along', async (t) => {
  const { bus } = fakeBus(t)
  const cause = new RangeError('too low', { cause: new RingbellError('ERR_RINGBELL_NOT_SENT', 'inner') })
  const circular: unknown[] = []
  circular.push(circular)
  const thrown = Object.assign(new Error('no', { cause }), {
    code: 'ERR_NO_ARTICLE',
    status: 404,
    details: { article: 7 },
    circular,
    big: 1n,
    stack: 'secret',
    toString: 'no function',
  })
  await bus.serve('shop', { codec: 'json' }, () => {
    throw thrown
  })
  const error = await failure((await bus.connect('shop', { codec: 'json' })).call(1))
  t.like(error, { code: 'ERR_NO_ARTICLE', remoteCode: 'ERR_NO_ARTICLE', status: 404, details: { article: 7 } })
  t.like(error.cause, { name: 'RemoteError', remoteName: 'RangeError', message: 'too low' })
  t.like((error.cause as Error).cause, { code: 'ERR_RINGBELL_REMOTE', remoteCode: 'ERR_RINGBELL_NOT_SENT' })
  t.deepEqual(Object.keys(error).sort(), ['code', 'details', 'name', 'remoteCode', 'remoteName', 'status'])
  t.is(String(error), 'RemoteError: no')
  t.false(error.stack?.includes('secret'))
})

test('the stack shows who called', async (t) => {
  const { bus } = fakeBus(t)
  await bus.serve('shop', { codec: 'json' }, () => {
    throw new Error('no')
  })
  const client = await bus.connect('shop', { codec: 'json' })
  const { stack } = await failure(theCaller(client))
  t.regex(stack ?? '', /RemoteError: no\n {4}at async theCaller /)
})

async function theCaller(client: Client<unknown, unknown, unknown>): Promise<unknown> {
  const reply = await client.call(1)
  return reply
}

test('hostile values and hostile bytes cost at worst the text', (t) => {
  const proxy = new Proxy(new Error('x'), {
    ownKeys() {
      throw new Error('gotcha')
    },
  })
  t.is(decodeError(encodeFailure(proxy)).message, 'The handler threw something that cannot be described')
  const long = decodeError(encodeFailure(Object.assign(new Error('x'), { long: 'x'.repeat(100_000), short: 1 })))
  t.deepEqual([long['long'], long['short']], [undefined, 1])
  const endless = new Error('endless')
  endless.cause = endless
  t.is(decodeError(encodeFailure(endless)).message, 'endless')
  const hostile = '{"code":"ERR_RINGBELL_NOT_SENT","fields":{"__proto__":{"x":1},"message":1,"then":2},"cause":3}'
  const error = decodeError(Buffer.from(hostile))
  t.like(error, { code: 'ERR_RINGBELL_REMOTE', remoteCode: 'ERR_RINGBELL_NOT_SENT', remoteName: 'Error' })
  t.is(Object.getPrototypeOf(error), RemoteError.prototype)
  t.is(typeof error.message, 'string')
  t.is(error['x'], undefined)
})

test('a cause of another realm travels as an error', (t) => {
  const cause: unknown = runInNewContext(`Object.assign(new TypeError('inner'), { status: 7 })`)
  const { cause: received } = decodeError(encodeFailure(new Error('outer', { cause })))
  t.true(received instanceof RemoteError)
  t.like(received, { remoteName: 'TypeError', message: 'inner', status: 7 })
})
