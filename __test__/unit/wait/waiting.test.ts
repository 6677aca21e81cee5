import test from 'ava'
import { Waiters, waitFor, type Waiting } from '../../../src/wait/waiting.js'

test('a wait ends once, and is taken away before it is settled', async (t) => {
  const left: string[] = []
  let waiting!: Waiting<number>
  const promise = waitFor<number>((one) => {
    waiting = one
    return () => left.push('away')
  })
  void promise.then(() => left.push('settled'))
  waiting.resolve(1)
  waiting.reject(new Error('too late'))
  waiting.resolve(2)
  t.deepEqual(left, ['away'])
  t.is(await promise, 1)
  t.deepEqual(left, ['away', 'settled'])
})

test('a wait that is settled while it begins is taken away', async (t) => {
  let away = 0
  const promise = waitFor<string>((waiting) => {
    waiting.resolve('at once')
    return () => away++
  })
  t.is(away, 1)
  t.is(await promise, 'at once')
})

test('a signal ends a wait asynchronously, with an explained error', async (t) => {
  const waiters = new Waiters<true>()
  const late = new AbortController()
  const first = waiters.wait(() => undefined, { signal: late.signal })
  const aborted = waiters.wait(() => undefined, {
    signal: AbortSignal.abort('x'),
    explain: (error) => Object.assign(error, { message: 'explained' }),
  })
  t.is(waiters.size, 2)
  await t.throwsAsync(aborted, { name: 'AbortError', message: 'explained' })
  late.abort()
  t.is(waiters.size, 0)
  await t.throwsAsync(first, { code: 'ABORT_ERR' })
})

test('a timeout ends it with its own error', async (t) => {
  const waiters = new Waiters<true>()
  await t.throwsAsync(
    waiters.wait(() => undefined, { timeout: 1, late: () => new RangeError('late') }),
    {
      instanceOf: RangeError,
    },
  )
  t.is(waiters.size, 0)
})

test('check settles the waits whose condition is met', async (t) => {
  const told: string[] = []
  const waiters = new Waiters<number>({ began: () => told.push('began'), ended: () => told.push('ended') })
  let value = 0
  const over = (least: number): Promise<number> => waiters.wait(() => (value > least ? value : undefined))
  const [one, two] = [over(0), over(5)]
  waiters.check()
  t.is(waiters.size, 2)
  value = 3
  waiters.check()
  t.is(await one, 3)
  t.is(waiters.size, 1)
  waiters.fail(new Error('closed'))
  await t.throwsAsync(two, { message: 'closed' })
  t.deepEqual(told, ['began', 'began', 'ended', 'ended'])
})

test('a wait that cannot begin leaves nothing behind', async (t) => {
  const waiters = new Waiters<true>({
    began: () => {
      throw new RangeError('no place')
    },
    ended: () => t.fail(),
  })
  await t.throwsAsync(
    waiters.wait(() => undefined),
    { instanceOf: RangeError },
  )
  t.is(waiters.size, 0)
})

test('a decided wait is not ended by a signal', async (t) => {
  const control = new AbortController()
  let waiting!: Waiting<string>
  const promise = waitFor<string>(
    (one) => {
      waiting = one
      return () => {}
    },
    { signal: control.signal },
  )
  waiting.decide()
  control.abort()
  waiting.resolve('sent')
  t.is(await promise, 'sent')
})

test('an exception while a wait begins rejects it', async (t) => {
  await t.throwsAsync(
    waitFor(() => {
      throw new RangeError('no place')
    }),
    { instanceOf: RangeError },
  )
})

test('what ending a wait throws does not undo its outcome', async (t) => {
  const settled = waitFor<string>((waiting) => {
    waiting.resolve('at once')
    return () => {
      throw new RangeError('cannot be taken away')
    }
  })
  t.is(await settled, 'at once')
  let owner!: Waiting
  const waited = waitFor((waiting) => {
    owner = waiting
    return () => {
      throw undefined
    }
  })
  owner.resolve()
  await t.throwsAsync(waited, { message: 'undefined was thrown' })
})

test('an abort that cannot be explained ends the wait all the same', async (t) => {
  const aborted = waitFor(() => () => {}, {
    signal: AbortSignal.abort(),
    explain: () => {
      throw new RangeError('no explanation')
    },
  })
  await t.throwsAsync(aborted, { name: 'AbortError' })
})
