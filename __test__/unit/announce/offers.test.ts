/** Which endpoints are chosen when some of them are on other machines. */
import test from 'ava'
import { EndpointBook } from '../../../src/announce/offers.js'
import type { Service } from '../../../src/bus/service.js'

const ORIGIN = { bus: '01', host: 'far', id: '02', hops: 1 }

function service(id: string, more: Partial<Service> = {}): Service {
  return { id, metadata: {}, endpoints: { http: `http://${id}:80` }, ...more } as Service
}

test('instances of this bus come first, and others are chosen only while it has none that is well', (t) => {
  const far = [service('far1', { origin: ORIGIN }), service('far2', { origin: ORIGIN })]
  const near = service('near')
  const view = { version: 0, all: [] as Service[], named: () => view.all }
  const book = new EndpointBook(view as never)
  /** What four look-ups choose. */
  const chosen = (...all: Service[]): string[] => {
    view.all = all
    view.version++
    const hosts = Array.from(
      { length: 4 },
      () => (book.next('api', 'http', 'round-robin').target as { host: string }).host,
    )
    return [...new Set(hosts)].sort()
  }
  t.deepEqual(chosen(...far), ['far1', 'far2'])
  t.deepEqual(chosen(...far, near), ['near'])
  t.deepEqual(
    book.list('api').map(({ service: { id } }) => id),
    ['near', 'far1', 'far2'],
  )
  // Where a connection to the first one fails, the next is tried.
  t.deepEqual(
    book.choices('api', 'http').map(({ target }) => (target as { host: string }).host),
    ['near', 'far1', 'far2'],
  )
  t.deepEqual(chosen(...far, service('near', { metadata: { health: 'failing' } })), ['far1', 'far2'])
  t.deepEqual(chosen(near, service('near2'), ...far), ['near', 'near2'])
  t.deepEqual(chosen(...far), ['far1', 'far2'])
  book.close()
})
