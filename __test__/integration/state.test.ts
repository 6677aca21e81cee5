/** States from JavaScript: values at once and on change, keys, writers that come and go, and what is refused. */
import test from 'ava'
import type { AsyncIteration, Bus, RingbellError, Rung, Schema, StateChange } from 'ringbell'
import { codeOf, place, until } from '../helpers/place.js'

const RUNGS: Rung[] = ['direct', 'handshake', 'stream']

async function taken<T>(watch: AsyncIteration<T>): Promise<T> {
  const { value, done } = await watch.next()
  if (done === true || value === undefined) throw new Error('the watch has ended')
  return value
}

for (const acquire of RUNGS) {
  test(`${acquire}: a value is read at once, and told about when it changes`, async (t) => {
    const at = place(t)
    const [ours, theirs] = [await at.bus(), await at.bus()]
    const reader = await theirs.watchState<{ n: number }>('limits', { codec: 'json', acquire })
    t.deepEqual([reader.read(), reader.version, reader.epoch], [undefined, 0, 0])
    const first = reader.next()
    const state = await ours.state<{ n: number }>('limits', { codec: 'json', size: 100 })
    t.is(state.set({ n: 1 }), 1)
    t.deepEqual(await first, { n: 1 })
    t.deepEqual([reader.version, reader.epoch, reader.read()], [1, state.epoch, { n: 1 }])
    // Values in between are passed over, the last one never is.
    const seen: number[] = []
    for (let n = 2; n <= 1000; n++) state.set({ n })
    for await (const { n } of reader) {
      seen.push(n)
      if (n === 1000) break
    }
    t.deepEqual(
      [...seen].sort((a, b) => a - b),
      seen,
    )
    await until(() => state.readers === 1)
    const writers = reader.writers
    t.like(writers[0], { rung: acquire, service: { name: 'limits', kind: 'state' } })
    const ended: unknown[] = []
    reader.on('ended', (writer, reason) => ended.push([writer, reason]))
    await state.close()
    await until(() => ended.length > 0)
    t.deepEqual(ended, [[writers[0], 'closed']])
    t.deepEqual([reader.read(), reader.writers], [{ n: 1000 }, []])
    const next = await ours.state<{ n: number }>('limits', { codec: 'json' })
    t.true(next.epoch > state.epoch)
    next.set({ n: 7 })
    t.deepEqual(await reader.next(), { n: 7 })
    t.deepEqual([reader.version, reader.epoch], [1, next.epoch])
  })
}

test('bytes are copied to a buffer of the caller, which must have room', async (t) => {
  const bus = await place(t).bus()
  const reader = await bus.watchState('limits')
  const buffer = new Uint8Array(64)
  t.is(reader.readInto(buffer), undefined)
  const state = await bus.state('limits', { size: 5000 })
  state.set(new Uint8Array(64).fill(7))
  t.deepEqual(await reader.next(), new Uint8Array(64).fill(7))
  t.is(reader.readInto(buffer), 64)
  t.deepEqual(buffer, new Uint8Array(64).fill(7))
  t.is(await codeOf(() => reader.readInto(new Uint8Array(63))), 'ERR_RINGBELL_INVALID_OPTION')
  t.is(await codeOf(() => reader.readInto('text' as never)), 'ERR_RINGBELL_INVALID_OPTION')
  state.set(new Uint8Array(5000).fill(8))
  const read = reader.read()
  t.deepEqual(read, new Uint8Array(5000).fill(8))
  state.set(Uint8Array.of(9))
  t.deepEqual(reader.read(), Uint8Array.of(9))
  t.deepEqual(read, new Uint8Array(5000).fill(8), 'what was read is never overwritten')
  t.is(await codeOf(() => state.set(new Uint8Array(5001))), 'ERR_RINGBELL_MESSAGE_TOO_LARGE')
  t.is(state.version, 3)
})

test('one writer at a time, and readers that end', async (t) => {
  const at = place(t)
  const [one, other] = [await at.bus(), await at.bus()]
  const state = await one.state('limits')
  t.is(await codeOf(() => other.state('limits')), 'ERR_RINGBELL_REFUSED')
  t.is(await codeOf(() => other.keyedState('limits')), 'ERR_RINGBELL_REFUSED')
  t.is(await codeOf(() => other.state('wrong', { size: 0 })), 'ERR_RINGBELL_INVALID_OPTION')
  t.is(await codeOf(() => other.state('wrong', { sise: 1 } as object)), 'ERR_RINGBELL_INVALID_OPTION')
  const reader = await other.watchState('limits')
  const waiting = codeOf(() => reader.next())
  t.is(await codeOf(() => reader.next({ signal: AbortSignal.timeout(10) })), 'ERR_RINGBELL_BUSY')
  await reader.close()
  t.is(await waiting, 'ERR_RINGBELL_CLOSED')
  t.is(await codeOf(() => reader.read()), 'ERR_RINGBELL_CLOSED')
  const aborted = await other.watchState('limits')
  t.is(await codeOf(() => aborted.next({ signal: AbortSignal.timeout(10) })), 'ABORT_ERR')
  await state.close()
  t.is(await codeOf(() => state.set(Uint8Array.of(1))), 'ERR_RINGBELL_CLOSED')
  await (await other.state('limits')).close()
})

for (const acquire of RUNGS) {
  test(`${acquire}: keys are read, and watched one by one, by prefix, or all`, async (t) => {
    const at = place(t)
    const [ours, theirs] = [await at.bus(), await at.bus()]
    const state = await ours.keyedState<number>('limits', { codec: 'json' })
    state.set('user.1', 1)
    state.set('user.2', 2)
    state.set('all', 3)
    const reader = await theirs.watchKeyedState<number>('limits', { codec: 'json', acquire })
    await reader.ready()
    await until(() => reader.keys().length === 3)
    t.deepEqual([reader.get('user.1'), reader.get('none')], [1, undefined])
    t.deepEqual(
      [reader.keys(), reader.keys('user.')],
      [
        ['all', 'user.1', 'user.2'],
        ['user.1', 'user.2'],
      ],
    )
    const [all, users, one] = [reader.watch(), reader.watch({ prefix: 'user.' }), reader.watch({ key: 'user.2' })]
    for (const change of [
      { key: 'all', value: 3 },
      { key: 'user.1', value: 1 },
      { key: 'user.2', value: 2 },
    ])
      t.deepEqual(await taken<StateChange<number>>(all), change)
    t.deepEqual(await taken(users), { key: 'user.1', value: 1 })
    t.deepEqual(await taken(one), { key: 'user.2', value: 2 })
    const [next, gone] = [taken(one), taken(all)]
    t.true(state.delete('all'))
    t.false(state.delete('all'))
    t.deepEqual(await gone, { key: 'all' })
    state.set('user.2', 20)
    t.deepEqual(await next, { key: 'user.2', value: 20 })
    t.deepEqual(await taken(users), { key: 'user.2', value: 20 })
    t.deepEqual([state.get('user.2'), state.keys().length, state.version], [20, 2, 5])
    await one.return()
    const ends = all.next().then(async () => all.next())
    await reader.close()
    t.deepEqual(await ends, { value: undefined, done: true })
  })
}

test('keys have limits', async (t) => {
  const bus = await place(t).bus()
  const state = await bus.keyedState('limits', { size: 440, capacity: 4096 })
  t.is(await codeOf(() => state.set('k', new Uint8Array(440))), 'ERR_RINGBELL_MESSAGE_TOO_LARGE')
  t.is(await codeOf(() => state.set('', Uint8Array.of(1))), 'ERR_RINGBELL_INVALID_OPTION')
  const full = await codeOf(() => {
    for (let n = 0; n < 10; n++) state.set(`k${n}`, new Uint8Array(400))
  })
  t.is(full, 'ERR_RINGBELL_STATE_FULL')
  const reader = await bus.watchState('limits')
  const failed = await new Promise<RingbellError>((resolve) => reader.on('failed', resolve))
  t.is(failed.code, 'ERR_RINGBELL_REFUSED')
})

test('errors have the words of states', async (t) => {
  const at = place(t)
  const bus = await at.bus()
  const schema: Schema<number> = {
    '~standard': {
      version: 1,
      vendor: 'test',
      validate: (value) => (typeof value === 'number' ? { value } : { issues: [{ message: 'must be a number' }] }),
    },
  }
  const state = await bus.state('limits', { size: 10, maxReaders: 1 })
  const keyed = await bus.keyedState('keyed', { size: 10 })
  const checked = await bus.state('checked', { codec: 'json', schema })
  state.set(Uint8Array.of(1))
  const reader = await bus.watchState('limits')
  await reader.next()
  const waiting = codeOf(() => reader.next())
  const iteration = reader.values()
  const texts: [() => unknown, RegExp][] = [
    [
      () => state.set(new Uint8Array(11)),
      /A value of 11 bytes is larger than the 10 bytes of this state; .* larger size/,
    ],
    [() => keyed.set('key', new Uint8Array(8)), /A key with its value of 11 bytes .* 10 bytes of this state/],
    [() => checked.set('text'), /^A value does not match its schema/],
    [() => bus.state('wrong', { maxReaders: 0 }), /Option maxReaders .* from 1 to 1024/],
    [() => bus.state('wrong', { size: -1 }), /Option size .* from 1 to/],
    [() => bus.state('a/b'), /'a\/b' is not a valid service name/],
    [() => bus.state(5 as never), /^5 is not a name: it must be a string/],
    [() => bus.subscriber(5 as never), /^5 is not a name or pattern/],
    [() => reader.next(), /^This state reader already has a call that waits for its next value/],
    [() => reader.values(), /^This state reader is being iterated/],
    [() => reader.readInto(undefined as never), /Option buffer .* must be a Uint8Array/],
    [() => bus.state('limits'), /Another process writes the state 'limits'.* option standby waits/],
  ]
  for (const [call, text] of texts) t.regex((await t.throwsAsync(async () => call())).message, text)
  const second = await bus.watchState('limits')
  const failed = await new Promise<RingbellError>((resolve) => second.on('failed', resolve))
  t.is(failed.code, 'ERR_RINGBELL_NO_SLOT')
  t.regex(failed.message, /raise .*maxReaders of the state/)
  await iteration.return?.()
  await reader.close()
  t.is(await waiting, 'ERR_RINGBELL_CLOSED')
})

test('a writer stands by for its turn', async (t) => {
  const at = place(t)
  const [one, other] = [await at.bus(), await at.bus()]
  const first = await one.state('limits')
  const stop = new AbortController()
  const given = codeOf(() => other.state('limits', { standby: true, signal: stop.signal }))
  const next = other.keyedState('limits', { standby: true })
  stop.abort()
  t.is(await given, 'ABORT_ERR')
  t.is(await codeOf(() => other.state('limits', { standby: 1 as never })), 'ERR_RINGBELL_INVALID_OPTION')
  await first.close()
  t.true((await next).epoch > first.epoch)
})

test('a wait for keys that ends says why none came', async (t) => {
  const bus = await place(t).bus()
  await bus.state('limits')
  await bus.publisher('ticks')
  const wrong = await bus.watchKeyedState('limits')
  await new Promise((resolve) => wrong.on('failed', resolve))
  const signal = (): AbortSignal => AbortSignal.timeout(10)
  const ready = await t.throwsAsync(() => wrong.ready({ signal: signal() }))
  t.regex(ready.message, /the state 'limits' has one value, and this reader wants keys/)
  const topic = await bus.watchKeyedState('ticks')
  const watched = await t.throwsAsync(() => topic.watch({ signal: signal() }).next())
  t.regex(watched.message, /announces 'ticks' as a topic, and not as a state/)
  t.is(await codeOf(() => topic.ready({ signal: 1 as never })), 'ERR_RINGBELL_INVALID_OPTION')
})

test('a watch that waits keeps the process alive only if it is referenced', async (t) => {
  const bus: Bus = await place(t).bus()
  const reader = (await bus.watchState('limits')).unref()
  const keyed = (await bus.watchKeyedState('other')).unref()
  const ends = Promise.all([codeOf(() => reader.next()), keyed.watch().next()])
  await bus.close()
  t.deepEqual(await ends, ['ERR_RINGBELL_CLOSED', { value: undefined, done: true }])
})
