/** One link over a stub of the binding: what fails one message, and what is told of its end once. */
import test from 'ava'
import { Arrivals } from '../../../src/channel/arrivals.js'
import { Link, type LinkHost, type Pending } from '../../../src/channel/link.js'
import { decodeError } from '../../../src/channel/remote-error.js'
import { KIND } from '../../../src/channel/wire.js'
import { RingbellError } from '../../../src/errors.js'
import type { NativeChannelHot } from '../../../src/native.js'
import { fakeBus, turns } from '../../helpers/fake-channel.js'

const LARGE = 100_000
const byte = (n: number): Uint8Array => Uint8Array.of(n)

/** A link, what it sent, and what became of a call on it. */
function scene(changed: Partial<NativeChannelHot> = {}) {
  const sent: [number, Uint8Array][] = []
  const told: string[] = []
  const hot = {
    send: (_connection: number, head: number, _id: number, _aux: number, data: Uint8Array) =>
      sent.push([head, data]) && 1,
    hasRoom: () => true,
    skipLarge: () => void told.push('skipped'),
    ...changed,
  } as unknown as NativeChannelHot
  const host = {
    hot,
    refused: () => {},
    blocked: () => {},
    fault: (one: Link) => one.end(new RingbellError('ERR_RINGBELL_CORRUPT_PEER', 'the end'), 0),
  } as unknown as LinkHost
  const call: Pending = {
    id: 0,
    ordinal: 0,
    sent: (ordinal: number) => void (call.ordinal = ordinal),
    lost: (reached: boolean) => told.push(reached ? 'lost' : 'not sent'),
    fail: () => told.push('failed'),
  } as unknown as Pending
  return { sent, told, hot, call, link: new Link(host, 0, { pid: 1, uid: 0 }, 1000) }
}

function failing(code: string): () => never {
  return () => {
    throw Object.assign(new Error(code), { code: `ERR_RINGBELL_${code}` })
  }
}

test('a message without memory for it is refused', (t) => {
  const { sent, told, hot, link } = scene()
  const dropped: string[] = []
  const arrivals = new Arrivals(hot, Infinity, ({ code }) => dropped.push(code))
  for (const kind of [KIND.request, KIND.chunk]) t.true(arrivals.begin(0, link, 2 ** 53, kind, 1, 0))
  t.deepEqual(
    sent.map(([head, data]) => [head, decodeError(data).code]),
    [[KIND.error, 'ERR_RINGBELL_RESOURCE']],
  )
  t.deepEqual(dropped, ['ERR_RINGBELL_RESOURCE'])
  t.deepEqual(told, ['skipped', 'skipped'])
})

test('a large request to a dead peer goes to another one', (t) => {
  const { told, call, link } = scene({ sendLarge: failing('PEER_GONE') })
  t.false(link.ask(call, 0, 0, new Uint8Array(2000), true))
  link.end(new RingbellError('ERR_RINGBELL_PEER_GONE', 'it died'), 0)
  t.deepEqual(told, [])
})

test('a large request that was sent goes to no other server, even if the peer is found to be broken or gone', async (t) => {
  for (const code of ['CORRUPT_PEER', 'PEER_GONE']) {
    let room = false
    let sent = false
    const { told, call, link } = scene({
      hasRoom: () => (sent ? failing(code)() : room),
      sendLarge: (_connection, _head, _id, _aux, data) => {
        sent = true
        return data.byteLength
      },
    })
    const waiting = link.room(10).catch(() => {})
    room = true
    t.true(link.ask(call, 0, 0, new Uint8Array(2000), true))
    await waiting
    if (!link.over) link.end(new RingbellError('ERR_RINGBELL_PEER_GONE', 'it died'), 1)
    t.deepEqual(told, ['lost'], code)
  }
})

test('a call with unusable memory is lost once, also to a corrupt peer', (t) => {
  const { told, call, link } = scene({ drainLarge: failing('INVALID_OPTION'), skipLarge: failing('CORRUPT_PEER') })
  t.true(link.ask(call, 0, 0, byte(1), true))
  link.readLarge({ head: KIND.reply, id: call.id, aux: 0, target: new Uint8Array(2000), filled: 0 })
  t.deepEqual(told, ['lost'])
})

test('into with a subclass of Uint8Array runs none of its code early', async (t) => {
  const { bus } = fakeBus(t)
  let asked = 0
  class Odd extends Uint8Array {
    override subarray(begin?: number, end?: number): Uint8Array<ArrayBuffer> {
      if (asked++ === 0) throw new Error('not yet')
      return new Uint8Array(this.buffer).subarray(begin, end)
    }
  }
  await bus.serve('calls', ([n = 0]) => new Uint8Array(n === 0 ? LARGE : 1))
  const client = await bus.connect('calls')
  const into = new Odd(LARGE)
  // It is asked only when the memory is given back, and then its call fails.
  await t.throwsAsync(client.call(byte(0), { into }), { message: 'not yet' })
  t.is((await client.call(byte(0), { into })).buffer, into.buffer)
  t.is((await client.call(byte(1))).byteLength, 1)
})

test('a handler that ends its own connection is told so', async (t) => {
  const { bus } = fakeBus(t)
  let told = 0
  const server = await bus.serve('calls', async (_request, { connection, signal }) => {
    void connection.close()
    await new Promise((resolve) => signal.addEventListener('abort', resolve))
    told++
  })
  const client = await bus.connect('calls', { reconnect: { tries: 1, delay: 60_000 } })
  await t.throwsAsync(client.call(byte(0)), { code: 'ERR_RINGBELL_OUTCOME_UNKNOWN' })
  await turns(3)
  t.is(told, 1)
  t.like(server.stats(), { inHand: 0, cancelled: 1 })
})
