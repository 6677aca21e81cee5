/** Headers on the wire between bridges: what a peer may have written there, and what becomes of it. */
import test, { type ExecutionContext } from 'ava'
import { blockOf, type Headed, headedOf } from '../../../src/bridge/headed.js'
import { Incoming } from '../../../src/bridge/incoming.js'
import { Serving } from '../../../src/bridge/serving.js'
import { HEADED, LENGTH_BYTES, type Packet, PACKET, SEQUENCE_BYTES, writeLength } from '../../../src/bridge/wire.js'
import { decodeHeaders, MOST_HEADER_BYTES, MOST_HEADERS, NO_HEADERS } from '../../../src/headers.js'

const DATA = Buffer.from('data')

/** A header as it is on the wire, whatever it says. */
function entry(name: string, value: string): Buffer {
  const lengths = Buffer.alloc(4)
  lengths.writeUInt16LE(Buffer.byteLength(name))
  lengths.writeUInt16LE(Buffer.byteLength(value), 2)
  return Buffer.concat([lengths, Buffer.from(name), Buffer.from(value)])
}

/** Headers and then `DATA`. */
function block(...parts: readonly Uint8Array[]): Buffer {
  const headers = Buffer.concat(parts)
  const length = Buffer.alloc(2)
  length.writeUInt16LE(headers.byteLength)
  return Buffer.concat([length, headers, DATA])
}

/** Takes them off, and expects so many to be counted. */
function opened(t: ExecutionContext, bytes: Buffer, counted: number): Headed | undefined {
  let wrong = 0
  const headed = headedOf(true, bytes, { wrong: () => wrong++ })
  t.is(wrong, counted)
  return headed
}

test('headers arrive as they were sent, and what has none carries nothing', (t) => {
  const host = { wrong: () => t.fail() }
  for (const headers of [{ a: '1' }, { tenant: 'ä\t☃', 'x-empty': '', 10: 'ten' }]) {
    const sent = Buffer.concat([blockOf(headers, host), DATA])
    t.deepEqual({ ...opened(t, sent, 0)?.headers }, headers)
    t.deepEqual(opened(t, sent, 0)?.data, DATA)
  }
  t.is(blockOf(NO_HEADERS, host).byteLength, 0)
  t.deepEqual(headedOf(false, DATA, host), { headers: undefined, data: DATA, size: DATA.byteLength })
})

test('headers that no program could have sent are left out and counted, and the data stays', (t) => {
  const many = Array.from({ length: MOST_HEADERS + 1 }, (_, n) => entry(`h${n}`, ''))
  for (const wrong of [
    block(),
    block(entry('', 'value')),
    block(entry('Upper', 'value')),
    block(entry('a b', 'value')),
    block(entry('a', 'line\nbreak')),
    block(entry('a', '\0')),
    block(entry('a', 'twice'), entry('a', 'twice')),
    block(entry('a', '1'), Buffer.from([1])),
    block(entry('a', '1').fill(0xff, 5)),
    block(entry('a', '1').subarray(0, 5)),
    block(...many),
    block(entry('a', 'x'.repeat(MOST_HEADER_BYTES))),
  ]) {
    const headed = opened(t, wrong, 1)
    t.is(headed?.headers, undefined)
    t.deepEqual(headed?.data, DATA)
  }
  for (const short of [Buffer.alloc(0), Buffer.alloc(1), Buffer.from([3, 0, 1, 2])])
    t.is(opened(t, short, 1), undefined)
})

test('what a program on this bus has written into a ring by itself does not leave the machine', (t) => {
  let wrong = 0
  const host = { wrong: () => wrong++ }
  t.is(blockOf(decodeHeaders(entry('Upper', 'value')), host).byteLength, 0)
  t.is(blockOf(decodeHeaders(Buffer.from([1])), host).byteLength, 0)
  t.is(wrong, 2)
})

test('messages with wrong headers among others', async (t) => {
  const good = block(entry('a', '1'))
  const messages = [
    [false, DATA],
    [true, good],
    [true, block(entry('A', '1'))],
    [true, Buffer.from([9, 0])],
    [true, good],
  ] as const
  const sequence = Buffer.alloc(SEQUENCE_BYTES)
  const parts = messages.map(([marked, bytes]) => {
    const length = Buffer.alloc(LENGTH_BYTES)
    writeLength(length, bytes.byteLength, marked, 0)
    return Buffer.concat([length, bytes])
  })
  const body = Buffer.concat([sequence, ...parts])
  const got: unknown[][] = []
  const counted = { received: 0, wrong: 0, missed: 0 }
  let attached: (subscriber: unknown) => void = () => {}
  const publisher = {
    // Just as much as one with its headers takes.
    maxMessage: 10,
    on: (event: string, listener: () => void) => {
      if (event === 'attached') attached = listener
    },
    send: (data: Buffer, options?: { headers: object }) => {
      got.push([data.toString(), options && { ...options.headers }])
      return true
    },
  }
  const incoming = new Incoming({} as never, publisher as never, 1000, {
    newStream: () => 1,
    dropStream: () => {},
    wants: () => {},
    taken: () => {},
    received: (messages) => (counted.received += messages),
    missed: (messages) => (counted.missed += messages),
    oversized: () => t.fail(),
    wrong: () => counted.wrong++,
    failed: (error) => t.fail(String(error)),
  })
  attached({})
  t.true(incoming.data({ type: PACKET.data, flags: 0, from: '', a: 1, b: 1, body }))
  await Promise.resolve()
  t.deepEqual(got, [
    ['data', undefined],
    ['data', { a: '1' }],
    ['data', undefined],
    ['data', { a: '1' }],
  ])
  t.deepEqual(counted, { received: 4, wrong: 2, missed: 0 })
  t.is(incoming.wish?.after, 4)
})

test('a call that is shorter than its headers say is refused, and reaches no handler', async (t) => {
  let wrong = 0
  const bus = { connect: async () => t.fail() }
  const refused = new Promise<Buffer>((resolve) => {
    const serving = new Serving(bus as never, {
      id: Buffer.alloc(8),
      largest: () => 1000,
      send: (_to, packed) => resolve(packed),
      offered: (id) => ({ id, kind: 'server' }) as never,
      knows: () => true,
      served: () => {},
      oversized: () => t.fail(),
      wrong: () => wrong++,
    })
    const call: Packet = {
      type: PACKET.call,
      flags: HEADED,
      from: '01',
      a: 1,
      b: 0,
      body: Buffer.concat([Buffer.alloc(16), Buffer.from([9, 0])]),
    }
    serving.call(call)
  })
  t.is((await refused)[0], PACKET.error)
  t.is(wrong, 1)
})
