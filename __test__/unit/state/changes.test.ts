/** A watch of a keyed state whose codec fails: it ends, whether `next` waits just then or not. */
import test from 'ava'
import { Changes } from '../../../src/state/changes.js'

function scene(): { readonly changes: Changes<string>; readonly left: () => number } {
  let left = 0
  const get = (key: string): string => {
    if (key === 'bad') throw new Error('no such value')
    return key
  }
  const changes = new Changes<string>(
    { get, left: () => void left++, explained: (error) => error },
    () => true,
    undefined,
  )
  return { changes, left: () => left }
}

for (const waits of [true, false]) {
  test(`a value that cannot be decoded ends the watch, ${waits ? 'while next waits' : 'before next is called'}`, async (t) => {
    const { changes, left } = scene()
    changes.add(['good'])
    t.deepEqual(await changes.next(), { value: { key: 'good', value: 'good' }, done: false })
    const early = waits ? changes.next() : undefined
    changes.add(['bad', 'good'])
    await t.throwsAsync(early ?? changes.next(), { message: /no such value/ })
    t.deepEqual(await changes.next(), { value: undefined, done: true })
    t.is(left(), 1)
  })
}
