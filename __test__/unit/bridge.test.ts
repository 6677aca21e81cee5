/** What a bridge believes of others, who can send anything, and what it tells those that it has lost. */
import { Buffer } from 'node:buffer'
import test from 'ava'
import type { Service } from 'ringbell'
import { NO_HEADERS } from '../../src/headers.js'
import { Calls } from '../../src/bridge/calls.js'
import { Mirrors } from '../../src/bridge/mirrors.js'
import type { BridgePolicy } from '../../src/bridge/options.js'
import { Peers } from '../../src/bridge/peers.js'
import { Serving } from '../../src/bridge/serving.js'
import {
  beatOf,
  type Entry,
  ID_BYTES,
  PACKET,
  packet,
  type Packet,
  unpack,
  wishOf,
  withJson,
} from '../../src/bridge/wire.js'
import { NOT_REACHED, TERM_OVER } from '../../src/channel/wire.js'

const OTHER = Buffer.alloc(8, 2)
const from = OTHER.toString('hex')
const read = (packed: Buffer): Packet => unpack(packed) as Packet
const ignore = (): void => {}

test('a stream has a number that a packet can carry, and a host has a plain name', (t) => {
  const wish = { stream: 2 ** 32 - 1, id: 'a', after: -1, got: 0, taken: 0 }
  t.deepEqual(wishOf(wish), wish)
  t.is(wishOf({ ...wish, stream: 2 ** 32 }), undefined)
  const beat = { host: 'web-1.example', lease: 1000, revision: 1, connection: 1 }
  t.deepEqual(beatOf(beat), beat)
  for (const host of ['\u001B[2J', 'a b', '', 'x'.repeat(256)]) t.is(beatOf({ ...beat, host }), undefined)
})

function peers(): { known: Peers; counted: { wrong: number; asked: number; offered: number } } {
  const counted = { wrong: 0, asked: 0, offered: 0 }
  const known = new Peers({
    joined: ignore,
    left: ignore,
    reconnected: ignore,
    ask: () => void counted.asked++,
    offered: (_, entries) => void (counted.offered = entries.length),
    wrong: () => void counted.wrong++,
  })
  return { known, counted }
}

const beatFrom = (id: Buffer): Packet =>
  read(withJson(PACKET.beat, id, { host: 'h', lease: 60_000, revision: 3, connection: 1 }))

test('others fill no more than a part of the memory: their number, and what each offers, have an end', (t) => {
  const { known, counted } = peers()
  t.teardown(() => known.close())
  known.beat(beatFrom(OTHER))
  const list = (size: number): Packet => {
    const entries = Array.from({ length: size }, () => ({ id: 'a'.repeat(32), name: 's', kind: 'server' }))
    return read(withJson(PACKET.list, OTHER, entries, 3, 1))
  }
  known.list(list(10_001))
  t.like(counted, { wrong: 1, offered: 0 })
  known.list(list(10_000))
  t.like(counted, { wrong: 1, offered: 10_000 })
  for (let n = 0; n < 1100; n++) {
    const id = Buffer.alloc(8, 9)
    id.writeUInt32LE(n)
    known.beat(beatFrom(id))
  }
  t.is(known.all.length, 1000)
  t.is(counted.wrong, 102)
})

test('the list of a bridge whose instance could not be shown is asked for again', (t) => {
  const { known, counted } = peers()
  t.teardown(() => known.close())
  known.beat(beatFrom(OTHER))
  known.list(read(withJson(PACKET.list, OTHER, [], 3, 1)))
  known.beat(beatFrom(OTHER))
  t.is(counted.asked, 1)
  known.forget(from)
  known.beat(beatFrom(OTHER))
  t.is(counted.asked, 2)
})

test('a mirror that could not be opened is told, and opened when it is offered again', async (t) => {
  const told: string[] = []
  let tries = 0
  const bus = {
    serve: async () => {
      if (++tries === 1) throw new Error('no room')
      return { on: ignore, close: async () => {} }
    },
  } as never
  const policy: BridgePolicy = { network: 'n', lease: 1, window: 1, access: undefined, allows: () => true }
  const mirrors = new Mirrors(bus, policy, {
    calls: {} as Calls,
    isHere: () => false,
    wants: ignore,
    taken: ignore,
    received: ignore,
    missed: ignore,
    oversized: ignore,
    wrong: ignore,
    failed: (error) => void told.push((error as Error).message),
    unopened: (of) => void told.push(of),
  })
  const entry: Entry = { id: 'a'.repeat(32), name: 's', kind: 'server' }
  mirrors.offered({ bus: from, host: 'h' }, [entry])
  while (told.length < 2) await new Promise(setImmediate)
  t.deepEqual(told, ['no room', from])
  t.is(mirrors.size, 0)
  mirrors.offered({ bus: from, host: 'h' }, [entry])
  t.is(mirrors.size, 1)
  await mirrors.close()
  t.is(tries, 2)
})

test('more of a stream than was asked for ends the call', async (t) => {
  const sent: number[] = []
  let wrong = 0
  const calls = new Calls({
    id: Buffer.alloc(8, 1),
    largest: () => 1000,
    connected: () => true,
    send: (_, packed) => void sent.push(read(packed).type),
    ask: ignore,
    made: ignore,
    oversized: ignore,
    wrong: () => void wrong++,
  })
  const context = {
    streamed: true,
    timeout: 0,
    signal: new AbortController().signal,
    headers: NO_HEADERS,
    replyHeaders: undefined,
  }
  const chunks = calls.call(from, 'a'.repeat(32), Buffer.alloc(1), context) as AsyncIterable<Uint8Array>
  for (let n = 0; n < 40; n++) calls.answer(read(packet(PACKET.chunk, OTHER, 0, 1)))
  t.is(wrong, 1)
  t.deepEqual(sent, [PACKET.credit, PACKET.cancel])
  let got = 0
  const all = (async () => {
    for await (const _ of chunks) got++
  })()
  await t.throwsAsync(all)
  t.is(got, 32)
})

test('a call of an unknown bus is not sent, and one of a bus that is lost has an unknown outcome', async (t) => {
  const sent: Packet[] = []
  const known = new Set([from])
  let calls = 0
  const client = {
    on: ignore,
    close: async () => {},
    exchange: (_: unknown, { signal }: { signal: AbortSignal }) => {
      calls++
      return new Promise((_done, reject) => signal.addEventListener('abort', () => reject(signal.reason as Error)))
    },
  }
  const serving = new Serving({ connect: async () => client } as never, {
    id: Buffer.alloc(8, 1),
    largest: () => 1000,
    send: (_, packed) => void sent.push(read(packed)),
    offered: (id) => ({ id, name: 's', kind: 'server' }) as Service,
    knows: (bus) => known.has(bus),
    served: ignore,
    oversized: ignore,
    wrong: ignore,
  })
  const call = (number: number): void => serving.call(read(packet(PACKET.call, OTHER, ID_BYTES, number)))
  call(1)
  while (calls === 0) await new Promise(setImmediate)
  known.clear()
  call(2)
  serving.lost(from)
  serving.lost(from)
  await new Promise(setImmediate)
  t.deepEqual(
    sent.map(({ type, a, flags }) => [type, a, flags]),
    [
      [PACKET.error, 2, NOT_REACHED],
      [PACKET.error, 1, TERM_OVER],
    ],
  )
})
