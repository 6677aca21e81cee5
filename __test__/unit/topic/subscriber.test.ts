/** A subscriber over a core that fails while nobody reads; the poller is real, what it watches is not. */
import { EventEmitter } from 'node:events'
import test from 'ava'
import { json } from '../../../src/codec/index.js'
import type { NativeSubscriber } from '../../../src/native.js'
import { Subscriber } from '../../../src/topic/subscriber.js'
import { Poller, type Wakeable } from '../../../src/wait/poller.js'

const add = Object.getOwnPropertyDescriptor(Poller.prototype, 'add')?.value as Poller['add']

test('a failure without a reader fails attached() and the next read, once', async (t) => {
  let target: Wakeable | undefined
  Poller.prototype.add = (_, wakeable) => {
    target = wakeable
    return 1_000_000
  }
  t.teardown(() => (Poller.prototype.add = add))
  const state = { broken: false }
  const native = {
    table: new Uint32Array(4),
    scratch: new Float64Array(4),
    hot: () => ({
      drain() {
        if (state.broken) throw Object.assign(new Error('no'), { code: 'ERR_RINGBELL_RESOURCE', errno: 'EMFILE' })
        return 0
      },
    }),
    close: () => undefined,
  } as unknown as NativeSubscriber
  const subscriber = new Subscriber({
    native,
    pattern: 'x',
    codec: json,
    wait: 'sleep',
    mismatch: () => undefined,
    closed: () => undefined,
  })
  t.true(subscriber instanceof EventEmitter)
  const failure = { name: 'RingbellError', code: 'ERR_RINGBELL_RESOURCE' }
  const attached = subscriber.attached()
  state.broken = true
  t.notThrows(() => target?.wake(), 'not an uncaught exception')
  await t.throwsAsync(attached, failure)
  state.broken = false
  t.throws(() => subscriber.tryReceive(), failure)
  t.is(subscriber.tryReceive(), undefined)
  await subscriber.close()
})
