/** An iteration over a value that changes: always the newest, and an end that is told once. */
import test from 'ava'
import { Newest } from '../../../src/wait/newest.js'

const one = { value: 1 }
const two = { value: 2 }
const three = { value: 3 }
const DONE = { value: undefined, done: true }

test('a slow loop gets the newest value, and a fast one each', async (t) => {
  let left = 0
  const values = new Newest<object>(one, undefined, () => left++)
  t.deepEqual(await values.next(), { value: one, done: false })
  values.put(two)
  values.put(three)
  t.deepEqual(await values.next(), { value: three, done: false })
  const [first, second] = [values.next(), values.next()]
  values.put(one)
  values.put(two)
  t.deepEqual(await Promise.all([first, second]), [
    { value: one, done: false },
    { value: two, done: false },
  ])
  const waiting = [values.next(), values.next()]
  t.deepEqual(await values.return(), DONE)
  t.deepEqual(await Promise.all(waiting), [DONE, DONE])
  t.deepEqual(await values.next(), DONE)
  await values[Symbol.asyncDispose]()
  t.is(left, 1)
})

test('an error is told once', async (t) => {
  const abort = new AbortController()
  const values = new Newest<object>(one, abort.signal, () => {})
  await values.next()
  const waiting = [values.next(), values.next()] as const
  abort.abort()
  await t.throwsAsync(waiting[0], { code: 'ABORT_ERR' })
  t.deepEqual(await waiting[1], DONE)
  t.throws(() => new Newest<object>(one, abort.signal, () => {}), { code: 'ABORT_ERR' })
})
