/** The names that `bus.locks` keeps open: what becomes of one that can never be used again, and what a look at all of them opens. */
import test from 'ava'
import type { LockHandle } from '../../../src/sync/lock-handle.js'
import { Locks } from '../../../src/sync/locks.js'

interface Fake {
  readonly name: string
  /** What its next calls fail with. */
  error: Error | undefined
  closed: boolean
}

const failure = (code: string): Error => Object.assign(new Error(code), { code })

/** Locks whose openings are all noted. A name that begins with `no` cannot be opened. */
function scene(names: readonly string[] = []): { readonly locks: Locks; readonly opened: Fake[] } {
  const opened: Fake[] = []
  const open = async (name: string): Promise<LockHandle> => {
    if (name.startsWith('no')) throw failure('ERR_RINGBELL_ACQUIRE')
    const fake: Fake = { name, error: undefined, closed: false }
    opened.push(fake)
    const call = (): unknown => {
      if (fake.error !== undefined) throw fake.error
      return { name }
    }
    const query = (): string =>
      JSON.stringify({ held: [{ mode: 'exclusive', pid: 7 }], pending: [], ...(call() as object) })
    const closeNow = (): void => void (fake.closed = true)
    return { take: call, takeNow: call, query, closeNow, idle: true } as unknown as LockHandle
  }
  return { locks: new Locks({ open, names: () => [...names] }), opened }
}

for (const code of ['ERR_RINGBELL_REFUSED', 'ERR_RINGBELL_CORRUPT_PEER', 'ERR_RINGBELL_CLOSED']) {
  test(`a name that answers ${code} is opened anew by the next call`, async (t) => {
    const { locks, opened } = scene()
    await locks.acquire('a')
    await locks.acquire('a')
    t.is(opened.length, 1)
    const [first] = opened as [Fake]
    first.error = failure(code)
    await t.throwsAsync(locks.acquire('a'), { code })
    t.true(first.closed)
    await locks.acquire('a')
    await locks.tryAcquire('a')
    t.is(opened.length, 2)
  })
}

test('a name that fails for a reason that passes stays open', async (t) => {
  const { locks, opened } = scene()
  await locks.acquire('a')
  const [first] = opened as [Fake]
  first.error = failure('ERR_RINGBELL_TIMEOUT')
  await t.throwsAsync(locks.acquire('a'), { code: 'ERR_RINGBELL_TIMEOUT' })
  first.error = undefined
  await locks.acquire('a')
  t.deepEqual([opened.length, first.closed], [1, false])
})

test('a look at all names passes over those that cannot be opened, and keeps open only what was', async (t) => {
  const { locks, opened } = scene(['a', 'no entry', 'b'])
  await locks.acquire('a')
  const { held } = await locks.query()
  t.deepEqual(
    held.map(({ name }) => name),
    ['a', 'b'],
  )
  t.deepEqual(
    opened.map(({ name, closed }) => [name, closed]),
    [
      ['a', false],
      ['b', true],
    ],
  )
  await t.throwsAsync(locks.query('no entry'), { code: 'ERR_RINGBELL_ACQUIRE' })
})
