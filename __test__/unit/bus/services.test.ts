import test from 'ava'
import { newsOf, type ServiceEvent } from '../../../src/bus/services-view.js'
import { Watching } from '../../../src/bus/watching.js'
import { Services } from '../../../src/bus/services.js'
import type { NativeBus, NativeWatch } from '../../../src/native.js'
import type { Poller, Wakeable } from '../../../src/wait/poller.js'
import { FakeBus } from '../../helpers/fake-channel.js'

/** A bus whose scans and events the test decides. */
function scene() {
  const record = (service: string): object => ({ service, id: `id-${service}`, kind: 'x', pid: 1, uid: 0, protocol: 1 })
  const state = { scans: [] as object[][], events: [] as object[][], watches: 0, closed: 0, held: 0, error: '' }
  let target: Wakeable | undefined
  const watch: NativeWatch = {
    take() {
      if (state.error === 'take') throw Object.assign(new Error('no'), { code: 'ERR_RINGBELL_SYSTEM' })
      const events = state.events.shift() ?? []
      return events.length === 0 ? '' : JSON.stringify(events)
    },
    close: () => void state.closed++,
  }
  const native = {
    list: () => JSON.stringify(state.scans.shift() ?? []),
    watch: () => (state.watches++, watch),
  } as unknown as NativeBus
  const poller = {
    add(_: unknown, wakeable: Wakeable) {
      if (state.error === 'add') throw Object.assign(new Error('no'), { code: 'ERR_RINGBELL_RESOURCE' })
      target = wakeable
      return 1
    },
    remove: () => undefined,
    hold: () => state.held++,
    drop: () => state.held--,
  } as unknown as Poller
  const added = (service: string): object => ({ type: 'added', record: record(service) })
  return { state, record, added, services: new Services(native, () => poller), wake: () => target?.wake() }
}

test('waitFor sees a service that comes between the scan and the wait', async (t) => {
  const { state, added, services } = scene()
  // Nobody before the scan, nobody in it, and then it is there.
  state.events = [[], [added('late')]]
  t.is((await services.waitFor('late', { timeout: 1000 })).name, 'late')
  t.is(state.held, 0)
})

test('a failed watch is removed, and the next call tries again', (t) => {
  const { state, services } = scene()
  state.error = 'add'
  t.throws(() => services.find('x'), { name: 'RingbellError', code: 'ERR_RINGBELL_RESOURCE' })
  t.deepEqual([state.watches, state.closed], [1, 1])
  state.error = ''
  t.is(services.find('x'), undefined)
  t.deepEqual([state.watches, state.closed], [2, 1])
})

test('waitFor rejects when the events cannot be read', async (t) => {
  const { state, services, wake } = scene()
  const waiting = services.waitFor('x')
  state.error = 'take'
  t.notThrows(wake)
  await t.throwsAsync(waiting, { name: 'RingbellError', code: 'ERR_RINGBELL_SYSTEM' })
  t.throws(() => services.list(), { name: 'RingbellError', code: 'ERR_RINGBELL_SYSTEM' })
  t.is(state.held, 0)
})

test('a closed bus rejects find, findAll and list', (t) => {
  const { state, record, added, services } = scene()
  state.scans = [[record('x')]]
  state.events = [[added('x')]]
  t.is(services.find('x')?.name, 'x')
  services.close()
  for (const call of [() => services.find('x'), () => services.findAll('x'), () => services.list()])
    t.throws(call, { code: 'ERR_RINGBELL_CLOSED' })
})

function watching(native: NativeWatch, signal?: AbortSignal): Watching<ServiceEvent> {
  return new Watching(
    native,
    () => newsOf(native),
    signal,
    () => {},
  )
}

test('a watch rejects when a record cannot be read', async (t) => {
  const native = new FakeBus().watch('x')
  const watch = watching(native)
  const asked = [watch.next(), watch.next()]
  native.take = () => JSON.stringify([{ type: 'added', record: null }])
  ;(native as unknown as { wakeSoon(): void }).wakeSoon()
  await t.throwsAsync(asked[0] as Promise<unknown>, { instanceOf: TypeError })
  t.deepEqual(await asked[1], { value: undefined, done: true })
})

test('a watch that cannot be closed rejects return, and an abort is told as an abort', async (t) => {
  const failing = (): NativeWatch => {
    const native = new FakeBus().watch('x')
    native.close = () => {
      throw Object.assign(new Error('no'), { code: 'ERR_RINGBELL_SYSTEM' })
    }
    return native
  }
  const left = watching(failing()).return()
  await t.throwsAsync(left, { name: 'RingbellError', code: 'ERR_RINGBELL_SYSTEM' })
  const control = new AbortController()
  const asked = watching(failing(), control.signal).next()
  // What a listener of a signal throws is an uncaught exception, which fails this file.
  control.abort()
  await t.throwsAsync(asked, { name: 'AbortError' })
  const native = failing()
  native.take = () => {
    throw Object.assign(new Error('unreadable'), { code: 'ERR_RINGBELL_RECORD' })
  }
  await t.throwsAsync(watching(native).next(), { code: 'ERR_RINGBELL_RECORD' })
})

const unreadable = { type: 'unreadable', error: { code: 'ERR_RINGBELL_RESOURCE', message: 'no room', errno: 'EMFILE' } }

test('a watch of a directory that cannot be read ends with the reason, after the events, once', async (t) => {
  const native = new FakeBus().watch('x')
  const record = { service: 'x', id: '1', kind: 'x', pid: 1, uid: 0, protocol: 1 }
  const said = [[{ type: 'added', record }, unreadable], [unreadable]]
  native.take = () => JSON.stringify(said.shift())
  const watch = watching(native)
  t.like(await watch.next(), { value: { type: 'added' }, done: false })
  await t.throwsAsync(watch.next(), { name: 'RingbellError', code: 'ERR_RINGBELL_RESOURCE', message: 'no room' })
  t.deepEqual(await watch.next(), { value: undefined, done: true })
})

test('a directory that cannot be read fails what waits, and answers come from scans again', async (t) => {
  const { state, record, added, services, wake } = scene()
  state.scans = [[record('x')]]
  state.events = [[added('x')]]
  t.is(services.find('x')?.name, 'x')
  const waiting = services.waitFor('y')
  state.events = [[unreadable]]
  t.notThrows(wake)
  await t.throwsAsync(waiting, { name: 'RingbellError', code: 'ERR_RINGBELL_RESOURCE' })
  // What the view knows may be wrong now.
  state.scans = [[]]
  t.is(services.find('x'), undefined)
})

test('who follows is told of each change, of what cannot be read, and of the end, and gets complete answers', (t) => {
  const { state, record, added, services, wake } = scene()
  state.scans = [[record('a')], [record('a')]]
  let told = 0
  const stop = services.follow(() => void told++)
  t.deepEqual([state.held, told], [1, 0])
  const names = (): string[] => services.list().map(({ name }) => name)
  // The view has nothing yet: the answer is that of a scan.
  t.deepEqual(names(), ['a'])
  state.events = [[added('a'), added('b')]]
  wake()
  t.is(told, 1)
  state.scans = [[record('a'), record('b')]]
  t.deepEqual(names(), ['a', 'b'])
  // Somebody else's look takes the event.
  state.events = [[added('c')]]
  state.scans = []
  t.deepEqual(names(), ['a', 'b', 'c'])
  t.is(told, 2)
  state.error = 'take'
  wake()
  t.is(told, 3)
  state.error = ''
  services.close()
  t.is(told, 4)
  stop()
  stop()
  t.is(state.held, 0)
})
