/** The ladder itself: what is forced is taken or refused by name, what steps down says why, what is not built says so. */
import { once } from 'node:events'
import test from 'ava'
import type { RingbellError, Rung, Service } from 'ringbell'
import { peer } from '../helpers/peer.js'
import { codeOf, place } from '../helpers/place.js'
import { forcedByEnvironment, rungs, withoutDirect } from '../helpers/rungs.js'

const when = (condition: boolean): typeof test | typeof test.skip => (condition ? test : test.skip)

when(withoutDirect)('direct that cannot be had fails by name, with the reason', async (t) => {
  const at = place(t)
  const bus = await at.bus()
  const publisher = await bus.publisher('ticks')
  const subscriber = await bus.subscriber('ticks', { acquire: 'direct' })
  const [service, error] = (await once(subscriber, 'failed')) as [Service, RingbellError]
  t.is(service.id, publisher.service.id)
  t.is(error.code, 'ERR_RINGBELL_ACQUIRE')
  t.regex(error.message, /direct/)
  t.deepEqual(subscriber.publishers, [])
})

when(!forcedByEnvironment)('auto takes the best that there is, and stats() say why not a better one', async (t) => {
  const at = place(t)
  const child = peer(at, 'publish.mjs', ['ticks'])
  const subscriber = await (await at.bus()).subscriber('ticks')
  const [attached] = await subscriber.attached()
  await subscriber.receive()
  const [source] = subscriber.stats().sources
  t.is(source?.rung, attached?.rung)
  t.is(source?.pid, child.pid)
  t.deepEqual(source?.stepDowns, attached?.stepDowns)
  if (withoutDirect) {
    t.is(source?.rung, 'handshake')
    t.deepEqual(
      source?.stepDowns.map(({ rung }) => rung),
      ['direct'],
    )
    t.regex(source?.stepDowns[0]?.reason ?? '', /pidfd_getfd|ENOSYS|EPERM/)
    // The errno's name where the kernel said no, one of our codes otherwise.
    t.regex(source?.stepDowns[0]?.code ?? '', /^(ENOSYS|EPERM|EACCES|ERR_RINGBELL_\w+)$/)
  } else {
    t.is(source?.rung, 'direct')
    t.deepEqual(source?.stepDowns, [])
  }
})

when(forcedByEnvironment)('the environment forces a rung for who leaves it to the ladder', async (t) => {
  const at = place(t)
  const bus = await at.bus()
  await bus.publisher('ticks')
  const [attached] = await (await bus.subscriber('ticks')).attached()
  t.is(attached?.rung, process.env['IPC_BUS_ACQUIRE'] as Rung)
})

for (const rung of rungs) {
  test(`${rung}: forced by the bus`, async (t) => {
    const at = place(t)
    await (await at.bus()).publisher('ticks')
    const [attached] = await (await (await at.bus({ acquire: rung })).subscriber('ticks')).attached()
    t.is(attached?.rung, rung)
    t.deepEqual(attached?.stepDowns, [])
  })

  test(`${rung}: of a publisher that offers another one only`, async (t) => {
    const at = place(t)
    const other = rung === 'direct' ? 'handshake' : 'direct'
    const bus = await at.bus()
    const publisher = await bus.publisher('ticks', { offers: [other] })
    t.deepEqual(publisher.service.offers, [other])
    const subscriber = await bus.subscriber('ticks', { acquire: rung })
    const [, error] = (await once(subscriber, 'failed')) as [Service, RingbellError]
    t.is(error.code, 'ERR_RINGBELL_ACQUIRE')
  })
}

test('stream is not built yet, and says so', async (t) => {
  const at = place(t)
  const bus = await at.bus()
  await bus.publisher('ticks')
  const code = await codeOf(async () => {
    const subscriber = await bus.subscriber('ticks', { acquire: 'stream' })
    throw ((await once(subscriber, 'failed')) as [Service, RingbellError])[1]
  })
  t.is(code, 'ERR_RINGBELL_NOT_BUILT')
})
