import test from 'ava'
import { type Service, serviceOf } from '../../../src/bus/service.js'
import { inGroup, ServicesView } from '../../../src/bus/services-view.js'

function service(name: string, id: string, metadata: Record<string, unknown> = {}): Service {
  return serviceOf({ service: name, id, kind: 'service', pid: 1, uid: 0, protocol: 1, metadata })
}

function view(...services: Service[]): ServicesView {
  const made = new ServicesView()
  for (const one of services) made.apply({ type: 'added', service: one })
  return made
}

test('a group is exact', (t) => {
  const made = view(service('audio', '1'), service('audio.mic', '2'), service('audio2', '3'), service('au', '4'))
  t.deepEqual(
    made.findAll('audio').map(({ id }) => id),
    ['1', '2'],
  )
  t.true(inGroup('a.b.c', 'a.b'))
  t.false(inGroup('a.bc', 'a.b'))
})

test('find gives the instance known longest, then the next', (t) => {
  const first = service('x', '1')
  const second = service('x', '2')
  const made = view(first, second)
  t.is(made.find('x'), first)
  made.apply({ type: 'removed', service: first })
  t.is(made.find('x'), second)
  made.apply({ type: 'removed', service: second })
  t.is(made.find('x'), undefined)
  t.is(made.size, 0)
})

test('an update replaces in place; an unknown service is added', (t) => {
  const made = view(service('x', '1'), service('x', '2'))
  made.apply({ type: 'updated', service: service('x', '1', { status: 'busy' }) })
  t.deepEqual(made.find('x')?.metadata, { status: 'busy' })
  t.is(made.list().length, 2)
  made.apply({ type: 'updated', service: service('y', '3') })
  t.is(made.find('y')?.id, '3')
})

test('twice added is there once, twice removed is gone', (t) => {
  const one = service('x', '1')
  const made = view(one, one)
  t.is(made.findAll('x').length, 1)
  made.apply({ type: 'removed', service: one })
  made.apply({ type: 'removed', service: one })
  t.deepEqual(made.list(), [])
})

test('has says whether it knows just these', (t) => {
  const one = service('x', '1')
  const two = service('x', '2')
  t.true(view().has([]))
  t.true(view(one, two).has([two, one]))
  t.false(view(one).has([one, two]))
  t.false(view(one, two).has([one]))
  t.false(view(one).has([two]))
})

test('a record becomes a frozen service in the words of this API', (t) => {
  const made = serviceOf({
    service: 'ticks',
    id: 'a',
    kind: 'topic',
    pid: 7,
    uid: 0,
    protocol: 1,
    offers: ['direct'],
    payloadSchema: 's',
    topic: { capacity: 4096, overflow: 'block', evictAfterMs: 50, maxSubscribers: 2 },
    access: { mode: '0660', group: 7 },
  })
  t.true(Object.isFrozen(made))
  t.is(made.name, 'ticks')
  t.is(made.schemaId, 's')
  t.deepEqual(made.topic, { capacity: 4096, overflow: 'block', evictAfter: 50, maxSubscribers: 2, maxGuests: 0 })
  t.deepEqual(made.access, { mode: '0660', group: 7, uids: [], gids: [] })
  t.deepEqual(made.endpoints, {})
})
