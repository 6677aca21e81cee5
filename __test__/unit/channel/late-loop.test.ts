/**
 * A loop that was late: a deadline is over, and what was waited for had come before. The busy time of each test is longer than its
 * timeout; nothing is asserted about time. The tests run one after the other, so that none makes another one late.
 */
import test from 'ava'
import { lastLook } from '../../../src/wait/last-look.js'
import { waitFor, type Waiting } from '../../../src/wait/waiting.js'
import { fakeBus, turns } from '../../helpers/fake-channel.js'

const TIMEOUT = 2000
const byte = (n: number): Uint8Array => Uint8Array.of(n)

/** Lets promise jobs run, and then nothing else until every deadline of before is over. In the next turn, timers run first. */
async function late(): Promise<void> {
  for (let jobs = 0; jobs < 20; jobs++) await Promise.resolve()
  const until = performance.now() + TIMEOUT + 50
  while (performance.now() < until);
}

for (const how of ['timeout', 'signal'] as const)
  test.serial(`a reply that had come ends the call, and not its ${how}`, async (t) => {
    const { bus } = fakeBus(t)
    let answer: ((reply: Uint8Array) => void) | undefined
    await bus.serve('slow', () => new Promise<Uint8Array>((resolve) => (answer = resolve)))
    const client = await bus.connect('slow')
    await client.connected()
    const call = client.call(
      byte(1),
      how === 'timeout' ? { timeout: TIMEOUT } : { signal: AbortSignal.timeout(TIMEOUT) },
    )
    while (answer === undefined) await turns()
    await turns(3)
    answer(byte(2))
    await late()
    t.deepEqual(await call, byte(2))
  })

test.serial('a job that was acknowledged is not delivered again', async (t) => {
  const { bus } = fakeBus(t)
  const queue = await bus.queue('jobs', { timeout: TIMEOUT, attempts: 1 })
  let done: (() => void) | undefined
  await bus.worker('jobs', () => new Promise<void>((resolve) => (done = resolve)))
  queue.push(byte(1))
  while (done === undefined) await turns()
  await turns(3)
  done()
  await late()
  await queue.drained()
  t.like(queue.stats(), { acknowledged: 1, redelivered: 0, failed: 0 })
})

test.serial('a message that had come is received', async (t) => {
  const { bus } = fakeBus(t)
  const server = await bus.serve('talk', () => {})
  const client = await bus.connect('talk')
  const mine = await client.connected()
  while (server.connections.length === 0) await turns()
  const received = mine.receive({ signal: AbortSignal.timeout(TIMEOUT) })
  await turns(3)
  server.connections[0]?.send(byte(1))
  await late()
  t.deepEqual(await received, byte(1))
})

test.serial('a wait that was over at its deadline is not late', async (t) => {
  let it: Waiting<number> | undefined
  const wait = waitFor<number>(
    (waiting) => {
      it = waiting
      return () => {}
    },
    { timeout: TIMEOUT, late: () => new Error('late') },
  )
  await turns()
  // As the poller does: after timers, in the same turn.
  setImmediate(() => it?.resolve(1))
  await late()
  t.is(await wait, 1)
  // Nothing came: it is late.
  await t.throwsAsync(
    waitFor(() => () => {}, { timeout: 1, late: () => new Error('late') }),
    { message: 'late' },
  )
})

test.serial('a last look can be called off', async (t) => {
  let judged = 0
  lastLook(() => judged++)
  lastLook(() => judged++)()
  await turns(3)
  t.is(judged, 1)
})
