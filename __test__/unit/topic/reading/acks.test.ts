/** What is done, and when it is told: the policy of `ack: 'batch'` and `'deferred'`, over a core that only writes down. */
import test from 'ava'
import type { NativeSubscriberHot } from '../../../../src/native.js'
import { type AckPolicy, Acks } from '../../../../src/topic/reading/acks.js'
import type { Source } from '../../../../src/topic/sources.js'

function scene(policy: Partial<AckPolicy> = {}) {
  const told: [number, number][] = []
  const failing: { error?: Error } = {}
  const tell = (source: number, sequence: number): boolean => {
    if (failing.error !== undefined) throw failing.error
    return told.push([source, sequence]) > 0
  }
  let heard: (error: unknown) => void = () => {}
  const failed = new Promise((resolve) => (heard = resolve))
  const acks = new Acks(tell, { mode: 'batch', batch: 8, interval: 50, ...policy }, heard)
  const source = (number: number): Source => ({
    number,
    id: String(number),
    name: 'ticks',
    publisher: undefined,
    redeliveredBelow: 0,
    taken: 0,
    memory: undefined,
  })
  /** Hands out messages one by one, as a reader asks for them. */
  const read = (from: Source, first: number, end: number): void => {
    for (let sequence = first; sequence < end; sequence++) {
      acks.asked()
      acks.took(from, sequence, 1)
    }
  }
  return { acks, told, source, read, failing, failed }
}

test('an error of the timer is reported', async (t) => {
  const { acks, source, read, failing, failed } = scene({ interval: 1 })
  read(source(0), 0, 2)
  acks.asked()
  failing.error = new Error('not now')
  // The timer does not keep the process alive.
  const alive = setInterval(() => {}, 1000)
  t.is(await failed, failing.error)
  clearInterval(alive)
})

test('a full batch is told when the next message is asked for', (t) => {
  const { acks, told, source, read } = scene()
  read(source(1), 0, 8)
  t.deepEqual(told, [], 'the eighth is in hand')
  acks.asked()
  t.deepEqual(told, [[1, 7]])
  acks.asked()
  acks.flush()
  t.is(told.length, 1, 'nothing is told twice')
  acks.close()
})

test('a batch is acknowledged as a whole', (t) => {
  const { acks, told, source } = scene()
  acks.took(source(1), 99, 100)
  acks.flush()
  t.deepEqual(told, [])
  acks.asked()
  t.deepEqual(told, [[1, 99]])
  acks.close()
})

test('another publisher does not wait for the first', (t) => {
  const { acks, told, source, read } = scene()
  read(source(1), 0, 2)
  read(source(2), 5, 7)
  t.deepEqual(told, [[1, 1]])
  acks.asked()
  acks.flush()
  t.deepEqual(told, [
    [1, 1],
    [2, 6],
  ])
  acks.close()
})

test('acks are sent at the interval, before sleep and on close', async (t) => {
  const { acks, told, source, read } = scene({ interval: 1 })
  const one = source(1)
  read(one, 0, 3)
  while (told.length === 0) await new Promise((done) => setTimeout(done, 1))
  t.deepEqual(told, [[1, 1]])
  read(one, 3, 5)
  let armed = false
  const hot = { arm: () => (armed = true) } as unknown as NativeSubscriberHot
  t.true(acks.beforeSleep(hot).arm() && armed)
  t.deepEqual(told.at(-1), [1, 3])
  read(one, 5, 6)
  acks.close()
  t.deepEqual(told.at(-1), [1, 4], 'the one in hand may not be done')
  acks.asked()
  acks.close()
  t.deepEqual(told.at(-1), [1, 5])
})

test('the ack timer does not keep the process alive', (t) => {
  const { acks, source, read } = scene()
  const timers = (): number => process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length
  const before = timers()
  read(source(1), 0, 6)
  t.is(timers(), before)
  acks.close()
})

test('deferred: only the user acknowledges, up to the last one given', (t) => {
  const { acks, told, source, read } = scene({ mode: 'deferred' })
  const one = source(1)
  t.throws(() => acks.upTo(one, 0), { code: 'ERR_RINGBELL_INVALID_OPTION', message: /none was/ })
  read(one, 4, 30)
  acks.asked()
  acks.flush()
  t.deepEqual(told, [])
  t.true(acks.upTo(one, 10))
  t.throws(() => acks.upTo(one, 30), { code: 'ERR_RINGBELL_INVALID_OPTION', message: /sequence 29/ })
  t.deepEqual(told, [[1, 10]])
})
