import test from 'ava'
import { Deadline, lineCount } from '../../../src/wait/deadlines.js'

const LONG_MS = 3_600_000

test.serial('lists of durations that nothing uses any more go', (t) => {
  for (let n = 0; n < 40_000; n++) new Deadline(LONG_MS + n, () => {}).cancel()
  t.true(lineCount() <= 64, `${lineCount()} lists`)
})

test.serial('the list of one duration stays, whatever comes and goes', (t) => {
  new Deadline(LONG_MS - 1, () => {}).cancel()
  const before = lineCount()
  for (let n = 0; n < 1000; n++) new Deadline(LONG_MS - 1, () => {}).cancel()
  t.is(lineCount(), before)
})

test.serial('lists in use stay, and go afterwards', (t) => {
  const used = Array.from({ length: 1000 }, (_, n) => new Deadline(2 * LONG_MS + n, () => {}))
  t.true(lineCount() >= 1000)
  for (const one of used) one.cancel()
  for (let n = 0; n < 2000; n++) new Deadline(3 * LONG_MS + n, () => {}).cancel()
  for (let n = 0; n < 100; n++) new Deadline(4 * LONG_MS + n, () => {}).cancel()
  t.true(lineCount() <= 64, `${lineCount()} lists`)
})

test.serial('deadlines expire in their order, and callbacks may set and cancel others', async (t) => {
  const expired: string[] = []
  // Deadlines do not keep the process alive.
  const alive = setInterval(() => {}, 1000)
  t.teardown(() => clearInterval(alive))
  await new Promise<void>((done) => {
    const first = new Deadline(5, () => {
      expired.push('first')
      cancelled.cancel()
      // So many that its own list, empty by now, is swept while it expires; then one of the same duration.
      for (let n = 0; n < 200; n++) new Deadline(5 * LONG_MS + n, () => {}).cancel()
      const again = new Deadline(5, () => {
        expired.push('again')
        done()
      })
      t.true(again.expires >= first.expires)
    })
    const cancelled = new Deadline(5, () => expired.push('cancelled'))
  })
  t.deepEqual(expired, ['first', 'again'])
})
