import test from 'ava'
import type { NativePublisher, NativePublisherHot } from '../../../../src/native.js'
import { type BatchHost, BatchWriter } from '../../../../src/topic/writing/batch-writer.js'
import { Loan } from '../../../../src/topic/writing/loan.js'
import { Room } from '../../../../src/topic/writing/room.js'
import { frameBytes, Window } from '../../../../src/topic/writing/window.js'
import { WaitPolicy } from '../../../../src/wait/policy.js'
import type { Poller } from '../../../../src/wait/poller.js'
import { SLICE_MS, TimeSlice } from '../../../../src/wait/time-slice.js'

const LIMIT = 1000

/** A publisher without shared memory. */
function scene() {
  const memory = new ArrayBuffer(4096)
  const lengths = new Uint32Array(4)
  const scratch = new Float64Array(2)
  const state = {
    room: 256,
    free: 0,
    open: false,
    committed: [] as number[],
    abandoned: 0,
    refused: 0,
    sweeps: 0,
    held: 0,
    sent: [] as number[],
    /** Bytes that the ring takes now, in pieces. */
    pieces: 0,
    begun: false,
    given: 0,
    broken: false,
    /** A clock that only tests move. */
    time: 0,
  }
  const hasRoom = (bytes: number): boolean => (state.begun ? state.pieces > 0 : bytes <= state.free)
  const hot: NativePublisherHot = {
    send(data) {
      if (state.broken) throw Object.assign(new Error('broken'), { code: 'ERR_RINGBELL_WINDOW_OPEN' })
      if (data.byteLength > state.free) return 0
      state.sent.push(data.byteLength)
      return 1
    },
    sendWith(data, headers) {
      return hot.send(new Uint8Array(data.byteLength + headers))
    },
    sendLarge(data, done) {
      if (state.broken) throw Object.assign(new Error('broken'), { code: 'ERR_RINGBELL_WINDOW_OPEN' })
      const piece = Math.min(data.byteLength - done, state.pieces, 100)
      state.pieces -= piece
      state.begun = done + piece < data.byteLength
      if (!state.begun) state.sent.push(data.byteLength)
      return done + piece
    },
    abandonLarge() {
      state.begun = false
      state.given++
    },
    openWindow(bytes) {
      if (state.open) throw Object.assign(new Error('open'), { code: 'ERR_RINGBELL_WINDOW_OPEN' })
      if (bytes > state.room) return 0
      state.open = true
      scratch.set([64, 0])
      return Math.min(state.room, 128)
    },
    commit(count) {
      state.open = false
      state.committed.push(...lengths.subarray(0, count))
    },
    abandon() {
      state.open = false
      state.abandoned++
    },
    hasRoom,
    armRoom: (bytes) => !hasRoom(bytes),
    spinRoom: hasRoom,
    sweep: () => void state.sweeps++,
  }
  const native = { scratch, lengths, memory: () => memory } as unknown as NativePublisher
  const line: { room?: Room } = {}
  const window = new Window(native, hot, () => line.room?.writing === true)
  const host: BatchHost = {
    closed: false,
    maxMessage: LIMIT,
    writer: undefined,
    refused: (bytes) => (state.refused = bytes),
  }
  const poller = { hold: () => state.held++, drop: () => state.held--, hurry() {} } as unknown as Poller
  const full: number[] = []
  const turn = new TimeSlice(() => state.time)
  const room = (line.room = new Room(hot, new WaitPolicy('sleep'), poller, (bytes) => full.push(bytes), turn))
  return { state, full, window, host, room, writer: new BatchWriter(window, host), memory: new Uint8Array(memory) }
}

test('frames are a header, the payload, and padding to 8', (t) => {
  t.deepEqual([0, 1, 8, 9, 256].map(frameBytes), [8, 16, 16, 24, 264])
})

test('payloads lie where the frames will be', (t) => {
  const { writer, state, memory } = scene()
  t.true(writer.push(Uint8Array.of(1, 2, 3)))
  writer.reserve(2)?.fill(9)
  t.is(writer.reserveAt(1), 64 + 16 + 16 + 8)
  t.is(writer.pending, 3)
  t.deepEqual([...memory.subarray(72, 75), ...memory.subarray(88, 90)], [1, 2, 3, 9, 9])
  writer.commit()
  t.deepEqual(state.committed, [3, 2, 1])
  t.false(state.open)
})

test('a full window, or a full table, is committed by itself', (t) => {
  const { writer, state } = scene()
  for (let i = 0; i < 5; i++) t.true(writer.push(new Uint8Array(1)))
  t.is(state.committed.length, 4, 'the table has four entries')
  t.true(writer.push(new Uint8Array(112)))
  t.is(state.committed.length, 5, 'the window had 112 bytes left')
  writer.abandon()
  t.is(state.abandoned, 1)
  t.is(writer.pending, 0)
})

test('push without room returns false, and earlier frames are sent', (t) => {
  const { writer, state } = scene()
  t.true(writer.push(new Uint8Array(1)))
  state.room = 64
  t.false(writer.push(new Uint8Array(120)))
  t.deepEqual(state.committed, [1])
  t.is(state.refused, 120)
  t.is(writer.reserve(120), undefined)
})

test('lengths too large for a ring throw, also beyond 32 bits', (t) => {
  const { writer } = scene()
  writer.push(new Uint8Array(1))
  for (const bad of [LIMIT + 1, 2 ** 31, 2 ** 32 + 1, Infinity]) {
    t.throws(() => writer.reserveAt(bad), { code: 'ERR_RINGBELL_MESSAGE_TOO_LARGE' }, String(bad))
  }
})

test('values other than byte arrays are refused before anything is written', (t) => {
  const { writer, state } = scene()
  writer.push(new Uint8Array(1))
  const INVALID = { code: 'ERR_RINGBELL_INVALID_OPTION' }
  for (const bad of [
    new ArrayBuffer(8),
    new Uint16Array(4),
    new Uint8ClampedArray(4),
    new DataView(new ArrayBuffer(8)),
    'text',
    [1, 2],
    null,
    {},
  ])
    t.throws(() => writer.push(bad as never), INVALID)
  for (const bad of [1.5, -1, Number.NaN, '3', undefined]) {
    t.throws(() => writer.reserveAt(bad as never), INVALID, String(bad))
    t.throws(() => writer.reserve(bad as never), INVALID, String(bad))
  }
  t.deepEqual([writer.pending, state.committed], [1, []])
  t.true(writer.push(Buffer.from('x')))
})

test('a batch that goes out of scope drops what was not committed', (t) => {
  const { writer, state } = scene()
  t.throws(() => {
    try {
      writer.push(new Uint8Array(1))
      throw new Error('in between')
    } finally {
      writer[Symbol.dispose]()
    }
  })
  t.deepEqual([writer.pending, state.abandoned, state.open, state.committed], [0, 1, false, []])
})

test('an error of the binding comes out as ours', (t) => {
  const { writer, state } = scene()
  state.open = true
  t.throws(() => writer.push(new Uint8Array(1)), { name: 'RingbellError', code: 'ERR_RINGBELL_WINDOW_OPEN' })
})

test('a loan is committed or abandoned, once', (t) => {
  const { window, state } = scene()
  const openLoan = (): Loan => {
    t.true(window.openFor(10, LIMIT) > 0)
    return new Loan(window, 10)
  }
  const loan = openLoan()
  t.is(loan.data.byteLength, 10)
  for (const bad of [11, -1, 1.5]) t.throws(() => loan.commit(bad), { code: 'ERR_RINGBELL_INVALID_OPTION' })
  loan.commit(4)
  t.deepEqual(state.committed, [4])
  t.throws(() => loan.commit(), { code: 'ERR_RINGBELL_RELEASED' })
  loan.abandon()
  t.is(state.abandoned, 0)
  openLoan()[Symbol.dispose]()
  t.is(state.abandoned, 1)
})

test('waits for room are served in order', async (t) => {
  const { room, state } = scene()
  const order: string[] = []
  const big = room.wait(100, undefined).then(() => order.push('big'))
  const small = room.wait(10, undefined).then(() => order.push('small'))
  t.is(state.held, 1)
  state.free = 50
  room.wake()
  await Promise.resolve()
  t.deepEqual(order, [], 'the small one does not overtake')
  state.free = 100
  room.wake()
  await Promise.all([big, small])
  t.deepEqual(order, ['big', 'small'])
  t.is(state.held, 0)
})

test('a wait that is given up lets the next one be served', async (t) => {
  const { room, state } = scene()
  const controller = new AbortController()
  const big = room.wait(100, controller.signal)
  const small = room.wait(10, undefined)
  state.free = 50
  controller.abort()
  await t.throwsAsync(big, { name: 'AbortError' })
  await t.notThrowsAsync(small)
  t.is(state.sweeps, 0, 'at once, not by the next sweep')
})

test('slots are swept only while something waits', async (t) => {
  const { room, state } = scene()
  const waiting = room.wait(10, undefined)
  t.is(state.sweeps, 0)
  while (state.sweeps < 2) await new Promise((resolve) => setTimeout(resolve, 10))
  state.free = 10
  room.wake()
  await waiting
  t.is(state.held, 0)
  const { sweeps } = state
  await new Promise((resolve) => setTimeout(resolve, 120))
  t.is(state.sweeps, sweeps)
})

test('full is told for a real wait only', async (t) => {
  const { room, state, full } = scene()
  state.free = 1000
  t.true(room.now(10))
  // Somebody who never waits uses up the turn.
  state.time += SLICE_MS
  while (room.now(10));
  await room.wait(10, undefined)
  t.deepEqual(full, [])
  state.free = 0
  const waiting = [room.wait(20, undefined), room.wait(30, undefined)]
  t.deepEqual(full, [20, 30])
  state.free = 30
  room.wake()
  await Promise.all(waiting)
  t.deepEqual(full, [20, 30])
})

test('closing rejects waits for room', async (t) => {
  const { room, state } = scene()
  const waiting = room.wait(10, undefined)
  room.close()
  await t.throwsAsync(waiting, { code: 'ERR_RINGBELL_CLOSED' })
  t.is(state.held, 0)
})

test('a large write begins at once, and holds back everything else', async (t) => {
  const { room, state, window, full } = scene()
  state.pieces = 250
  const written = room.write(new Uint8Array(400), LIMIT / 10, undefined)
  t.true(room.writing)
  t.is(state.pieces, 0)
  t.is(window.open(8), 0, 'no window')
  t.false(room.now(1))
  t.deepEqual(full, [400])
  state.pieces = 100
  room.wake()
  t.deepEqual(state.sent, [])
  state.pieces = 100
  room.wake()
  await written
  t.deepEqual([state.sent, state.given, state.held, full], [[400], 0, 0, [400]])
  t.false(room.writing)
  t.true(window.open(8) > 0)
})

test('a wait for room is served before the write behind it', async (t) => {
  const { room, state } = scene()
  const ready = room.wait(100, undefined).then(() => t.false(room.writing))
  const small = room.write(new Uint8Array(50), LIMIT, undefined)
  const large = room.write(new Uint8Array(400), 100, undefined)
  t.false(room.writing, 'nobody writes before it is his turn')
  Object.assign(state, { free: 100, pieces: 1000 })
  room.wake()
  t.deepEqual(state.sent, [])
  await Promise.all([ready, small, large])
  t.deepEqual(state.sent, [50, 400])
  t.is(state.held, 0)
})

test('an aborted write is given up, and the next one is served', async (t) => {
  const { room, state } = scene()
  const controllers = [new AbortController(), new AbortController()]
  const writes = [400, 500, 600].map((bytes, i) => room.write(new Uint8Array(bytes), 100, controllers[i]?.signal))
  controllers[1]?.abort()
  await t.throwsAsync(writes[1] as Promise<void>, { name: 'AbortError' })
  t.is(state.given, 0, 'that one had not')
  Object.assign(state, { free: 1, pieces: 600 })
  controllers[0]?.abort()
  await t.throwsAsync(writes[0] as Promise<void>, { name: 'AbortError' })
  t.is(state.given, 1)
  await writes[2]
  t.deepEqual(state.sent, [600])
})

test('an error rejects only the write that it belongs to', async (t) => {
  const { room, state } = scene()
  const first = room.write(new Uint8Array(400), 100, undefined)
  const second = room.write(new Uint8Array(10), 100, undefined)
  Object.assign(state, { broken: true, free: 10, pieces: 1 })
  room.wake()
  await t.throwsAsync(first, { name: 'RingbellError', code: 'ERR_RINGBELL_WINDOW_OPEN' })
  await t.throwsAsync(second, { code: 'ERR_RINGBELL_WINDOW_OPEN' })
  t.deepEqual([state.given, state.held, room.writing], [1, 0, false])
  state.broken = false
  await room.write(new Uint8Array(10), 100, undefined)
  t.deepEqual(state.sent, [10])
})

test('closing rejects writes', async (t) => {
  const { room, state } = scene()
  const writes = [400, 10].map((bytes) => room.write(new Uint8Array(bytes), 100, undefined))
  room.close()
  for (const write of writes) await t.throwsAsync(write, { code: 'ERR_RINGBELL_CLOSED' })
  t.deepEqual([state.held, room.writing], [0, false])
})
