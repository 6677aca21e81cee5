import { setImmediate as turn } from 'node:timers/promises'
import { MessageChannel } from 'node:worker_threads'
import test from 'ava'
import { serviceOf } from '../../../../src/bus/service.js'
import { type Codec, json, structured } from '../../../../src/codec/index.js'
import { PayloadCodec } from '../../../../src/codec/payload-codec.js'
import type { NativeSubscriber, NativeSubscriberHot } from '../../../../src/native.js'
import { BATCH_BEFORE, DRAIN_LARGE, DRAIN_NEEDS_SLAB } from '../../../../src/native.js'
import { BorrowedBatches } from '../../../../src/topic/reading/borrowed-batches.js'
import { BorrowedSource } from '../../../../src/topic/reading/borrowed.js'
import { LeaseSource } from '../../../../src/topic/reading/lease.js'
import { Listener } from '../../../../src/topic/reading/listening.js'
import { Loans } from '../../../../src/topic/reading/loans.js'
import { OwnedSource } from '../../../../src/topic/reading/owned.js'
import type { ReaderContext } from '../../../../src/topic/reading/reader-context.js'
import { ReaderGate } from '../../../../src/topic/reading/reader-gate.js'
import { Sources } from '../../../../src/topic/sources.js'
import { Iteration } from '../../../../src/wait/iteration.js'
import { once } from '../../../../src/wait/once.js'
import { WaitPolicy } from '../../../../src/wait/policy.js'
import type { Poller } from '../../../../src/wait/poller.js'
import { TimeSlice } from '../../../../src/wait/time-slice.js'
import { transferTo } from '../../../helpers/transfer.js'

const BATCH_FRAME = 24

/** A subscriber without shared memory: what is sent here is drained there, by the rules of docs/protocol.md. */
function scene(codec: Codec<unknown> = json) {
  const pending: { text: string | Buffer; sequence: number }[] = []
  const table = new Uint32Array(4 * 8)
  const scratch = new Float64Array(4)
  const ring = new ArrayBuffer(4096)
  const state = { sent: 0, released: 0, drains: 0, held: 0 }
  /** Longer texts come in pieces. */
  const LARGE = 500_000

  /** Writes what is pending as one batch, and says how many messages fitted. */
  function write(memory: Uint8Array, fill: number): number {
    if (pending.length === 0) return 0
    const view = new DataView(memory.buffer, memory.byteOffset, memory.byteLength)
    const [first] = pending
    if (first !== undefined && first.text.length > LARGE) {
      table.set([0, first.text.length, BATCH_BEFORE, 0])
      scratch.set([3, first.text.length, first.sequence, 42])
      return DRAIN_LARGE
    }
    const needed = BATCH_FRAME + 8 + (first?.text.length ?? 0)
    if (memory.byteLength - fill < needed) {
      scratch[0] = needed
      return DRAIN_NEEDS_SLAB
    }
    view.setBigUint64(fill + 8, BigInt(first?.sequence ?? 0), true)
    view.setBigUint64(fill + 16, 123_456_789_012_345_678n, true)
    let at = fill + BATCH_FRAME
    let count = 0
    while (
      count < 8 &&
      pending[0] !== undefined &&
      pending[0].text.length <= LARGE &&
      at + 8 + pending[0].text.length <= memory.byteLength
    ) {
      const { text } = pending.shift() ?? { text: '' }
      memory.set(Buffer.from(text), at + 8)
      table.set([at + 8, text.length, fill, count], 4 * count)
      at += (8 + text.length + 7) & ~7
      count++
    }
    scratch.set([3, at - fill, 0, 0])
    return count
  }

  const hot: NativeSubscriberHot = {
    drain: (slab, fill) => {
      state.drains++
      return write(slab, fill)
    },
    arm: () => pending.length === 0,
    lease: () => write(new Uint8Array(ring), 0),
    release: () => void state.released++,
    ack: () => false,
  }
  const takeLarge = (): Uint8Array => Buffer.from(pending.shift()?.text ?? '')
  const native = { table, scratch, takeLarge, sourceMemory: () => ring } as unknown as NativeSubscriber
  const sources = new Sources()
  const service = serviceOf({ service: 'ticks', id: 'abc', kind: 'topic', pid: 1, uid: 0, protocol: 1 })
  sources.add(3, { service, rung: 'direct', fallbacks: [] })
  const notices = { keeping: false, untold: false, take: (): void => undefined, takeSoon: (): void => undefined }
  const loans = new Loans()
  const context: ReaderContext = { native, hot, sources, notices, payloads: new PayloadCodec(codec), loans }
  const poller = { hold: () => state.held++, drop: () => state.held--, hurry() {} } as unknown as Poller
  const gate = new ReaderGate(hot, new WaitPolicy('sleep'), poller, () => undefined)
  const send = (...texts: (string | Buffer)[]): void => {
    for (const text of texts) pending.push({ text, sequence: state.sent++ })
    gate.wake()
  }
  const owned = new OwnedSource<unknown>(context)
  return {
    state,
    send,
    gate,
    table,
    scratch,
    notices,
    loans,
    owned,
    borrowed: new BorrowedBatches(owned, new BorrowedSource<unknown>(context), loans),
    borrowedElsewhere: new BorrowedBatches(owned, new BorrowedSource<unknown>(context), loans),
    lease: new BorrowedBatches(owned, new LeaseSource<unknown>(context), loans),
  }
}

test('a message knows its bytes, value, sequence, time and publisher', (t) => {
  const { owned, send } = scene()
  send('1', '{"a":2}')
  t.true(owned.refill())
  t.is(owned.take().value, 1)
  const message = owned.take()
  t.deepEqual(message.value, { a: 2 })
  t.is(message.value, message.value)
  t.is(message.data, message.data)
  t.is(message.byteLength, 7)
  t.is(message.sequence, 1)
  t.is(message.time, 123_456_789_012_345_678n)
  t.is(message.publisher, 'abc')
  t.is(message.service, 'ticks')
  t.false(owned.refill())
})

test('sequence and time come from the scratch words after the batch frame', (t) => {
  const { owned, send, table, scratch } = scene()
  send('1')
  t.true(owned.refill())
  table.set([BATCH_BEFORE, 7], 2)
  t.is(owned.take().sequence, 7)
  scratch.set([3, 32, 2 ** 40, 5])
  t.is(scratch[2], 2 ** 40)
})

test('small messages share a slab, and none is overwritten', (t) => {
  const { owned, send } = scene()
  const kept = []
  for (let i = 0; i < 2000; i++) {
    send(String(i))
    t.true(owned.refill())
    kept.push(owned.take())
  }
  t.deepEqual(
    kept.map(({ value }) => value),
    kept.map((_, i) => i),
  )
  t.true(new Set(kept.map(({ data }) => data.buffer)).size < 10)
})

test('a message larger than any slab gets one of its size', (t) => {
  const { borrowed, send } = scene()
  const long = JSON.stringify('x'.repeat(400_000))
  send(long)
  t.true(borrowed.refill())
  t.is(borrowed.take().byteLength(0), long.length)
})

test('a message that came in pieces is one of its own, in every lifetime', (t) => {
  const { owned, borrowed, lease, loans, send, state } = scene()
  const large = JSON.stringify('x'.repeat(600_000))
  send('1', large, '2', large, large)
  for (const sequence of [0, 1, 2]) {
    t.true(owned.refill())
    const message = owned.take()
    t.is(message.sequence, sequence)
    t.is(message.byteLength === large.length, sequence === 1)
    if (sequence === 1) t.deepEqual([message.value, message.time], [JSON.parse(large), 42n])
  }
  for (const [messages, lifetime] of [
    [borrowed, 'borrowed'],
    [lease, 'lease'],
  ] as const) {
    t.true(messages.refill())
    const batch = messages.take()
    const view = batch.data(0)
    t.deepEqual([batch.lifetime, batch.length, batch.byteLength(0)], [lifetime, 1, large.length])
    t.is(loans.batch, batch)
    batch.release()
    t.throws(() => batch.data(0), { code: 'ERR_RINGBELL_RELEASED' })
    t.is(view[1], 120, 'nobody else writes there')
  }
  t.is(state.released, 1)
  t.false(owned.refill())
})

test('a borrowed batch is refused after release, and its index is checked', (t) => {
  const { borrowed, loans, send } = scene()
  send('1', '2')
  borrowed.refill()
  const batch = borrowed.take()
  t.is(loans.batch, batch)
  t.deepEqual([batch.length, batch.value(1), batch.sequence(1), batch.offset(0)], [2, 2, 1, 32])
  t.deepEqual(
    [...batch].map(({ value }) => value),
    [1, 2],
  )
  for (const i of [2, -1, 0.5, 0.5 + 2, Number.NaN, 2 ** 32])
    t.throws(() => batch.data(i), { code: 'ERR_RINGBELL_INVALID_OPTION', message: /batch of 2/ }, String(i))
  batch.release()
  batch.release()
  t.is(loans.batch, undefined)
  for (const use of [() => batch.data(0), () => batch.bytes, () => batch.sequence(0), () => [...batch]]) {
    t.throws(use, { code: 'ERR_RINGBELL_RELEASED' })
  }
})

test('a lease is released once, at the latest by the next refill', (t) => {
  const { lease, send, state } = scene()
  send('1')
  lease.refill()
  const batch = lease.take()
  t.is(batch.value(0), 1)
  t.false(lease.refill())
  t.is(state.released, 1)
  batch.release()
  t.is(state.released, 1)
})

test('an owned batch stays when the table is written again', (t) => {
  const { owned, send } = scene()
  send('1', '2', '3')
  owned.refill()
  owned.take()
  const batch = owned.takeBatch()
  send('10', '11')
  owned.refill()
  t.deepEqual([batch.value(0), batch.value(1), batch.length], [2, 3, 2])
  batch.release()
  t.is(batch.value(0), 2)
})

test('for await: break leaves the rest for the next reader', async (t) => {
  const { owned, gate, send } = scene()
  send('1', '2', '3')
  for await (const message of new Iteration(owned, gate, undefined)) {
    t.is(message.value, 1)
    break
  }
  const rest = new Iteration(owned, gate, undefined)
  t.is((await rest.next()).value?.value, 2)
  t.throws(() => new Iteration(owned, gate, undefined), { code: 'ERR_RINGBELL_BUSY' })
  await rest.return()
  await t.notThrowsAsync(new Iteration(owned, gate, undefined).return())
})

test('leaving an iteration of leases gives the last one back', async (t) => {
  const { lease, loans, gate, send, state } = scene()
  send('1')
  for await (const batch of new Iteration(lease, gate, undefined)) {
    t.is(batch.value(0), 1)
    break
  }
  t.is(state.released, 1)
  t.is(loans.batch, undefined)
})

test('a drain for owned messages survives a reader of lent batches', (t) => {
  for (const lifetime of ['borrowed', 'lease'] as const) {
    const { owned, send, ...sources } = scene()
    const lent = sources[lifetime]
    t.false(lent.refill())
    send('1', '2', '3')
    t.true(owned.refill())
    t.is(owned.take().value, 1)
    send('4444', '"longer than a word"', '6')
    t.true(lent.refill())
    const batch = lent.take()
    t.deepEqual([batch.lifetime, batch.length, batch.value(0), batch.value(1)], ['owned', 2, 2, 3])
    t.true(lent.refill())
    t.deepEqual([lent.take().value(0), owned.holding], [4444, -1])
  }
})

test('a lent batch blocks other drains until it is released', (t) => {
  for (const lifetime of ['borrowed', 'lease'] as const) {
    const { owned, borrowedElsewhere, send, state, loans, ...sources } = scene()
    send('10', '20')
    t.true(sources[lifetime].refill())
    const batch = sources[lifetime].take()
    send('3')
    const { drains } = state
    t.throws(() => owned.refill(), { code: 'ERR_RINGBELL_BUSY' })
    t.throws(() => borrowedElsewhere.refill(), { code: 'ERR_RINGBELL_BUSY' })
    borrowedElsewhere.leave()
    t.is(loans.batch, batch as never)
    t.deepEqual([batch.value(0), batch.value(1), state.drains], [10, 20, drains])
    batch.release()
    t.true(owned.refill())
    t.is(owned.take().value, 3)
  }
})

test('a value of a borrowed batch is a copy, also if the codec makes views', (t) => {
  const { borrowed, send } = scene(structured)
  const encoded = (fill: number): Buffer => Buffer.from(structured.encode({ bytes: new Uint8Array(64).fill(fill) }))
  send(encoded(1))
  t.true(borrowed.refill())
  const batch = borrowed.take()
  const values = [batch.value(0), ...[...batch].map(({ value }) => value)] as { bytes: Uint8Array }[]
  send(encoded(2))
  t.true(borrowed.refill())
  t.deepEqual(borrowed.take().value(0), { bytes: new Uint8Array(64).fill(2) })
  for (const { bytes } of values) t.deepEqual(bytes, new Uint8Array(64).fill(1))
})

test('the slab of a huge borrowed message is given up after a while', (t) => {
  const { borrowed, send } = scene()
  const size = (): number => borrowed.take().bytes.byteLength
  send(JSON.stringify('x'.repeat(400_000)))
  t.true(borrowed.refill())
  t.true(size() > 400_000)
  const sizes = Array.from({ length: 100 }, () => {
    send('1')
    t.true(borrowed.refill())
    return size()
  })
  t.true((sizes[50] ?? 0) > 400_000, 'not at once: the next one may be huge too')
  t.true((sizes[99] ?? Infinity) < 400_000)
})

test('a listener waits with messages until events of their source are told', async (t) => {
  const { notices, owned, gate, send } = scene()
  const values: unknown[] = []
  const listener = new Listener(owned, gate, ({ value }) => void values.push(value), undefined)
  await turn()
  notices.untold = true
  send('1')
  await turn()
  t.deepEqual(values, [])
  notices.untold = false
  while (values.length === 0) await turn()
  t.deepEqual(values, [1])
  listener.stop()
})

test('overlapping calls of next are answered in order', async (t) => {
  const { owned, gate, send } = scene()
  const iteration = new Iteration(owned, gate, undefined)
  const all = Promise.all([iteration.next(), iteration.next(), iteration.next()])
  send('1')
  send('2', '3')
  t.deepEqual(
    (await all).map(({ value }) => value?.value),
    [1, 2, 3],
  )
})

test('a signal rejects the wait and ends the iteration', async (t) => {
  const { owned, gate, state } = scene()
  const controller = new AbortController()
  const iteration = new Iteration(owned, gate, controller.signal)
  const next = iteration.next()
  t.is(state.held, 1)
  controller.abort('enough')
  await t.throwsAsync(next, { name: 'AbortError', code: 'ABORT_ERR' })
  t.true((await iteration.next()).done)
  t.is(state.held, 0)
  t.notThrows(() => gate.assertFree())
  t.throws(() => new Iteration(owned, gate, controller.signal), { name: 'AbortError' })
})

test('closing ends iterations and listeners, and rejects a receive', async (t) => {
  const first = scene()
  const iteration = new Iteration(first.owned, first.gate, undefined)
  const next = iteration.next()
  first.gate.close()
  t.true((await next).done)
  t.true((await iteration.next()).done)
  t.throws(() => new Iteration(first.owned, first.gate, undefined), { code: 'ERR_RINGBELL_CLOSED' })

  const second = scene()
  const received = once(second.owned, second.gate, new TimeSlice(), undefined)
  t.throws(() => second.gate.assertFree(), { code: 'ERR_RINGBELL_BUSY' })
  second.gate.close()
  await t.throwsAsync(received, { code: 'ERR_RINGBELL_CLOSED' })
  t.is(second.state.held, 0)

  const third = scene()
  const listener = new Listener(third.owned, third.gate, () => undefined, undefined)
  third.gate.close()
  await t.notThrowsAsync(listener.finished)
})

test('a stream that never runs dry lets timers run', async (t) => {
  const { owned, gate, send } = scene()
  let ticks = 0
  const timer = setInterval(() => ticks++, 1)
  send('0')
  for await (const message of new Iteration(owned, gate, undefined)) {
    send('0')
    if (ticks >= 5 || message.sequence > 5_000_000) break
  }
  clearInterval(timer)
  t.is(ticks, 5)
})

test('a listener delivers, stops, and leaves the rest', async (t) => {
  const { owned, gate, send } = scene()
  const values: unknown[] = []
  const listener = new Listener(
    owned,
    gate,
    ({ value }) => {
      values.push(value)
      if (value === 2) listener.stop()
    },
    undefined,
  )
  await turn()
  await turn()
  send('1', '2', '3')
  await listener.finished
  t.deepEqual(values, [1, 2])
  t.is(owned.take().value, 3)
})

test("a listener's exception ends it and rejects `finished`", async (t) => {
  const { owned, gate, send } = scene()
  const listener = new Listener(
    owned,
    gate,
    () => {
      throw new Error('mine')
    },
    undefined,
  )
  send('1')
  await t.throwsAsync(listener.finished, { message: 'mine' })
  t.notThrows(() => gate.hold({ closed: () => undefined }))
})

test('a revoked proxy thrown by a callback ends the listener', async (t) => {
  const { owned, gate, send, state } = scene()
  const { proxy, revoke } = Proxy.revocable({}, {})
  revoke()
  const listener = new Listener(
    owned,
    gate,
    () => {
      throw proxy
    },
    undefined,
  )
  await turn()
  send('1')
  const thrown = await listener.finished.then(
    () => undefined,
    (error: unknown) => [error],
  )
  t.true(thrown?.[0] === proxy)
  t.is(state.held, 0)
  send('2')
  t.is((await once(owned, gate, new TimeSlice(), undefined)).value, 2)
})

test('a message can be transferred without harm to others', (t) => {
  const { port1 } = new MessageChannel()
  t.teardown(() => port1.close())
  const transfer = transferTo(port1)
  const { owned, borrowed, send } = scene()
  // A slab of each kind: the first one, later ones, one of its own for a long message.
  for (let round = 0; round < 600; round++) {
    send('1', '2', ...(round % 200 === 0 ? [JSON.stringify('x'.repeat(300_000))] : []))
    t.true(owned.refill())
    const first = owned.take()
    transfer(first.data)
    t.is(first.value, 1)
    while (owned.refill()) transfer(owned.take().data)
  }
  for (const length of [1, 300_000]) {
    send('1', JSON.stringify('x'.repeat(length)))
    while (borrowed.refill()) {
      const batch = borrowed.take()
      transfer(batch.data(0))
      t.true(batch.data(0).byteLength > 0)
      batch.release()
    }
  }
})
