/** Waits in `attached()` keep the process alive, as long as the endpoint is referenced. */
import test from 'ava'
import { Attaching } from '../../../src/topic/attaching.js'
import type { Poller } from '../../../src/wait/poller.js'

test('waits keep the process alive until the last one has ended', async (t) => {
  let held = 0
  let sources = 0
  const poller = { hold: () => held++, drop: () => held--, hurry: () => {} } as unknown as Poller
  const attaching = new Attaching(
    (count) => sources >= count,
    poller,
    () => undefined,
  )
  const first = attaching.wait(1, undefined)
  t.is(held, 1)
  const second = attaching.wait(2, undefined)
  t.is(held, 1)
  attaching.referenced = false
  t.is(held, 0)
  attaching.referenced = true
  t.is(held, 1)
  for (const left of [1, 0]) {
    sources++
    attaching.check()
    t.is(held, left)
  }
  await Promise.all([first, second])
})
