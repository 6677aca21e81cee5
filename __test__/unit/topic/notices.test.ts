import { EventEmitter } from 'node:events'
import test from 'ava'
import type { NativeSubscriber } from '../../../src/native.js'
import { Notices, type SubscriberEvents } from '../../../src/topic/notices.js'
import { Sources } from '../../../src/topic/sources.js'

/** Notices of a core that tells what the test has it tell. */
function scene() {
  const pending: object[] = []
  const state = { holding: -1, joined: 0, looks: 0 }
  const emitter = new EventEmitter<SubscriberEvents>()
  const sources = new Sources()
  const native = {
    notices: () => (pending.length === 0 ? '' : JSON.stringify(pending.splice(0))),
  } as unknown as NativeSubscriber
  const notices = new Notices(native, sources, {
    emitter,
    holding: () => state.holding,
    ask: () => void state.looks++,
    joined: () => void state.joined++,
  })
  const attached = (source: number): object => ({
    type: 'attached',
    source,
    rung: 'direct',
    record: { service: 'ticks', id: `id${source}`, kind: 'topic', pid: 1, uid: 0, protocol: 1 },
  })
  const tell = (...some: object[]): void => {
    pending.push(...some)
    notices.take()
  }
  return { state, emitter, sources, notices, attached, tell }
}

test('sources are noted at once; events follow in a microtask', async (t) => {
  const { state, emitter, sources, notices, attached, tell } = scene()
  const seen: number[] = []
  emitter.on('attached', () => seen.push(sources.size))
  tell(attached(0), attached(1))
  t.deepEqual([sources.size, state.joined, seen, notices.untold], [2, 1, [], true])
  await Promise.resolve()
  t.deepEqual([seen, notices.untold], [[2, 2], false])
})

test('events keep their order, also those that a listener causes', async (t) => {
  const { emitter, attached, tell } = scene()
  const seen: string[] = []
  emitter.on('attached', ({ service }) => {
    seen.push(`+${service.id}`)
    if (service.id === 'id0')
      tell({ type: 'missed', source: 1, messages: 7 }, { type: 'ended', source: 1, reason: 'died' })
  })
  emitter.on('missed', ({ service }, messages) => seen.push(`${messages} of ${service.id}`))
  emitter.on('ended', ({ service }, reason) => seen.push(`-${service.id} ${reason}`))
  tell(attached(0), attached(1))
  await Promise.resolve()
  t.deepEqual(seen, ['+id0', '+id1', '7 of id1', '-id1 died'])
})

test('a closed subscriber tells no more events', async (t) => {
  const { emitter, notices, attached, tell } = scene()
  let told = 0
  emitter.on('attached', () => {
    told++
    notices.clear()
  })
  tell(attached(0), attached(1))
  await Promise.resolve()
  t.is(told, 1)
  tell(attached(2))
  await Promise.resolve()
  t.is(told, 1)
})

test('ended waits for the last message of that publisher', async (t) => {
  const { state, emitter, notices, sources, attached, tell } = scene()
  const ended: string[] = []
  emitter.on('ended', ({ service }) => ended.push(service.id))
  state.holding = 0
  tell(
    attached(0),
    attached(1),
    { type: 'ended', source: 0, reason: 'closed' },
    { type: 'ended', source: 1, reason: 'closed' },
  )
  await Promise.resolve()
  t.deepEqual([ended, notices.keeping, sources.size], [['id1'], true, 1])
  state.holding = -1
  notices.takeSoon()
  while (ended.length < 2) await new Promise((resolve) => setImmediate(resolve))
  t.deepEqual([ended, notices.keeping, state.looks], [['id1', 'id0'], false, 1])
})
