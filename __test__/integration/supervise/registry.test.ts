/** The registry: a face of the bus, so the bus sees all of it, and it sees all of the bus. */
import test from 'ava'
import { Registry } from 'ringbell/supervise'
import { codeOf, place, until } from '../../helpers/place.js'

test('what was registered is found at once, also when answers come from the cached view', async (t) => {
  const registry = new Registry(await place(t, { untidy: true }).bus())
  t.is(registry.find('number-0'), undefined)
  for (let number = 0; number < 50; number++) {
    await registry.register(`number-${number}`)
    t.is(registry.find(`number-${number}`)?.pid, process.pid)
  }
})

test('what is registered is found by name, by prefix and in its domain', async (t) => {
  const at = place(t, { untidy: true })
  const [bus, other] = [await at.bus(), await at.bus({ domain: 'lab' })]
  const registry = new Registry(bus)
  const control = 'unix:/run/price.sock'
  const entry = await registry.register('price', { control, reply: 'unix:/run/reply.sock', metadata: { zone: 'a' } })
  await registry.register('price.history')
  const found = registry.find('price')
  t.deepEqual(found?.endpoints, { control, reply: 'unix:/run/reply.sock' })
  t.deepEqual(found?.metadata, { zone: 'a' })
  t.is(found?.pid, process.pid)
  t.deepEqual(
    registry
      .findAll('price')
      .map(({ name }) => name)
      .sort(),
    ['price', 'price.history'],
  )
  t.is(registry.list().length, 2)
  t.is(bus.services.find('price')?.id, found?.id)
  t.is(new Registry(other).find('price'), undefined)
  await entry.close()
  await until(() => registry.list().every(({ name }) => name !== 'price'))
  t.is(typeof (await registry.gc()), 'object')
  t.is(await codeOf(() => registry.register('no name')), 'ERR_RINGBELL_INVALID_NAME')
  t.is(await codeOf(() => registry.register('price', { control: 5 as never })), 'ERR_RINGBELL_INVALID_OPTION')
  t.is(await codeOf(() => registry.register('price', { other: 1 } as never)), 'ERR_RINGBELL_INVALID_OPTION')
})
