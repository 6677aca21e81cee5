/** A subscriber over a core that fails while nobody reads; the poller is real, what it watches is not. */
import { EventEmitter } from 'node:events'
import test, { type ExecutionContext } from 'ava'
import { json } from '../../../src/codec/index.js'
import { PayloadCodec } from '../../../src/codec/payload-codec.js'
import { DRAIN_NOTICE, type NativeSubscriber } from '../../../src/native.js'
import { Subscriber } from '../../../src/topic/subscriber.js'
import { Poller, type Wakeable } from '../../../src/wait/poller.js'

/** A subscriber with a fake core, and the function that wakes it. */
function scene(t: ExecutionContext, native: object): { subscriber: Subscriber; wake: () => void } {
  let target: Wakeable | undefined
  Poller.prototype.add = (_, wakeable) => {
    target = wakeable
    return 1_000_000
  }
  t.teardown(() => (Poller.prototype.add = add))
  const subscriber = new Subscriber({
    native: {
      table: new Uint32Array(4),
      scratch: new Float64Array(4),
      close: () => undefined,
      ...native,
    } as NativeSubscriber,
    pattern: 'x',
    payloads: new PayloadCodec(json),
    wait: 'sleep',
    mismatch: () => undefined,
    closed: () => undefined,
  })
  return { subscriber, wake: () => target?.wake() }
}

const add = Object.getOwnPropertyDescriptor(Poller.prototype, 'add')?.value as Poller['add']

test('a failure without a reader fails attached() and the next read, once', async (t) => {
  const state = { broken: false }
  const { subscriber, wake } = scene(t, {
    hot: () => ({
      drain() {
        if (state.broken) throw Object.assign(new Error('no'), { code: 'ERR_RINGBELL_RESOURCE', errno: 'EMFILE' })
        return 0
      },
    }),
  })
  t.true(subscriber instanceof EventEmitter)
  const failure = { name: 'RingbellError', code: 'ERR_RINGBELL_RESOURCE' }
  const attached = subscriber.attached()
  state.broken = true
  t.notThrows(wake, 'not an uncaught exception')
  await t.throwsAsync(attached, failure)
  state.broken = false
  t.throws(() => subscriber.tryReceive(), failure)
  t.is(subscriber.tryReceive(), undefined)
  await subscriber.close()
})

test('one wake takes in all notices, also those that the core finds only after the first ones were taken', async (t) => {
  const record = (id: string) => ({ id, service: 'x', kind: 'topic', pid: 1, uid: 0, meta: {} })
  const told = [
    ['a', 'b', 'c'].map((id, source) => ({ type: 'attached', source, record: record(id), rung: 'direct' })),
    [{ type: 'ended', source: 0, reason: 'closed' }],
    // The core finds these when it checks the publishers, which it does only when no notices wait.
    [1, 2].map((source) => ({ type: 'ended', source, reason: 'closed' })),
  ]
  const { subscriber, wake } = scene(t, {
    hot: () => ({ drain: () => (told.length > 0 ? DRAIN_NOTICE : 0) }),
    notices: () => JSON.stringify(told.shift() ?? []),
  })
  const ended: string[] = []
  subscriber.on('ended', ({ service }) => ended.push(service.id))
  wake()
  t.deepEqual(subscriber.publishers, [])
  await Promise.resolve()
  t.deepEqual(ended, ['a', 'b', 'c'])
  await subscriber.close()
})
