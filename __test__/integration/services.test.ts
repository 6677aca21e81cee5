/** Who is on the bus: list, find, groups, waiting, watching, with announcements that come, change and go in two processes' views. */
import test from 'ava'
import type { ServiceEvent } from 'ringbell'
import { PATIENCE_MS } from '../helpers/patience.js'
import { codeOf, place, until } from '../helpers/place.js'

test('list, find and findAll, with exact groups', async (t) => {
  const at = place(t)
  const bus = await at.bus()
  const other = await at.bus()
  t.deepEqual(bus.services.list(), [])
  const announced = await Promise.all(['audio', 'audio.mic', 'audio2', 'video'].map((name) => other.announce(name)))
  t.deepEqual(
    bus.services
      .list()
      .map(({ name }) => name)
      .sort(),
    ['audio', 'audio.mic', 'audio2', 'video'],
  )
  t.is(bus.services.find('audio.mic')?.id, announced[1]?.service.id)
  t.is(bus.services.find('audio.m'), undefined)
  t.deepEqual(
    bus.services
      .findAll('audio')
      .map(({ name }) => name)
      .sort(),
    ['audio', 'audio.mic'],
  )
  await until(() => bus.services.findAll('audio').length === 2)
  await announced[1]?.close()
  await until(() => bus.services.find('audio.mic') === undefined)
  t.deepEqual(
    bus.services
      .list()
      .map(({ name }) => name)
      .sort(),
    ['audio', 'audio2', 'video'],
  )
  t.is(await codeOf(() => bus.services.find('no such name')), 'ERR_RINGBELL_INVALID_NAME')
})

test('an announcement carries what it was given', async (t) => {
  const at = place(t)
  const [bus, other] = [await at.bus(), await at.bus()]
  const announced = await bus.announce('api', {
    kind: 'http',
    metadata: { version: 3, tags: ['a', 'ö'] },
    endpoints: { http: 'unix:/run/api.sock' },
    codec: 'json',
    schemaId: 'api/3',
  })
  const found = await other.services.waitFor('api', { timeout: PATIENCE_MS })
  const { record: _, ...rest } = found
  t.deepEqual(rest, {
    name: 'api',
    id: announced.service.id,
    kind: 'http',
    pid: process.pid,
    uid: process.getuid?.() ?? -1,
    protocol: 3,
    offers: [],
    metadata: { version: 3, tags: ['a', 'ö'] },
    endpoints: { http: 'unix:/run/api.sock' },
    codec: 'json',
    schemaId: 'api/3',
  })
  t.true(Object.isFrozen(found))
  t.is(await codeOf(() => bus.announce('big', { metadata: { text: 'x'.repeat(70_000) } })), 'ERR_RINGBELL_RECORD')
})

test('waitFor waits, gives up, and sees services that are there already', async (t) => {
  const at = place(t)
  const [bus, other] = [await at.bus(), await at.bus()]
  t.is(await codeOf(() => bus.services.waitFor('late', { timeout: 5 })), 'ERR_RINGBELL_TIMEOUT')
  t.is(await codeOf(() => bus.services.waitFor('late', { timeout: 0 })), 'ERR_RINGBELL_TIMEOUT')
  const waiting = bus.services.waitFor('late')
  const announced = await other.announce('late')
  t.is((await waiting).id, announced.service.id)
  t.is((await bus.services.waitFor('late', { timeout: 0 })).id, announced.service.id)
})

test('watch: existing services, then added, updated, removed, in order', async (t) => {
  const at = place(t)
  const [bus, other] = [await at.bus(), await at.bus()]
  const first = await other.announce('a', { metadata: { n: 0 } })
  await other.announce('ignored')
  const events: [string, string, unknown][] = []
  const expect = async (...wanted: [string, string, unknown][]): Promise<void> => {
    while (events.length < wanted.length) {
      const { value } = (await watch.next()) as { value: ServiceEvent }
      events.push([value.type, value.service.id, value.service.metadata['n']])
    }
    t.deepEqual(events.splice(0), wanted)
  }
  const watch = bus.services.watch({ filter: 'a*' })
  await expect(['added', first.service.id, 0])
  first.update({ n: 1 })
  await expect(['updated', first.service.id, 1])
  const second = await other.publisher('ab', { metadata: { n: 5 } })
  await expect(['added', second.service.id, 5])
  second.update({ n: 6 })
  await expect(['updated', second.service.id, 6])
  t.deepEqual(second.service.metadata, { n: 6 })
  const ids = [first.service.id, second.service.id]
  await first.close()
  await expect(['removed', ids[0] as string, 1])
  await second.close()
  await expect(['removed', ids[1] as string, 6])
  await watch.return?.()
  t.deepEqual(await watch.next(), { value: undefined, done: true })
})

test('an updated record is never missing from a list', async (t) => {
  const at = place(t)
  const [bus, other] = [await at.bus(), await at.bus()]
  const announced = await other.announce('busy')
  for (let round = 0; round < 100; round++) {
    announced.update({ round })
    t.deepEqual(
      bus.services.list().map(({ metadata }) => metadata),
      [{ round }],
    )
  }
  t.is(at.files().length, 1)
})

test('domains are name spaces of their own', async (t) => {
  const at = place(t, { untidy: true })
  const [one, two] = [await at.bus({ domain: 'one' }), await at.bus({ domain: 'two' })]
  await one.announce('x')
  t.is(one.services.list().length, 1)
  t.is(two.services.list().length, 0)
  t.not(one.path, two.path)
})
