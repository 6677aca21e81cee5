/** The ladder itself: what is forced is taken or refused by name, what steps down says why, what is not built says so. */
import { once } from 'node:events'
import test from 'ava'
import type { RingbellError, Rung, Service } from 'ringbell'
import { peer } from '../helpers/peer.js'
import { codeOf, place, until } from '../helpers/place.js'
import { forcedByEnvironment, rungs, withoutDirect, withoutMemory } from '../helpers/rungs.js'

const when = (condition: boolean): typeof test | typeof test.skip => (condition ? test : test.skip)

when(withoutDirect)('direct that cannot be had fails by name, with the reason', async (t) => {
  const at = place(t)
  const bus = await at.bus()
  const publisher = await bus.publisher('ticks')
  const subscriber = await bus.subscriber('ticks', { acquire: 'direct' })
  const [error, service] = (await once(subscriber, 'failed')) as [RingbellError, Service]
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
  t.deepEqual(source?.fallbacks, attached?.fallbacks)
  if (withoutMemory) {
    t.is(source?.rung, 'stream')
    t.deepEqual(
      source?.fallbacks.map(({ rung, code }) => [rung, code]),
      [
        ['direct', 'NOT_OFFERED'],
        ['handshake', 'NOT_OFFERED'],
      ],
    )
  } else if (withoutDirect) {
    t.is(source?.rung, 'handshake')
    t.deepEqual(
      source?.fallbacks.map(({ rung }) => rung),
      ['direct'],
    )
    t.regex(source?.fallbacks[0]?.reason ?? '', /pidfd_getfd|ENOSYS|EPERM/)
    // The errno's name where the kernel said no, one of our codes otherwise.
    t.regex(source?.fallbacks[0]?.code ?? '', /^(ENOSYS|EPERM|EACCES|ERR_RINGBELL_\w+)$/)
  } else {
    t.is(source?.rung, 'direct')
    t.deepEqual(source?.fallbacks, [])
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
    t.deepEqual(attached?.fallbacks, [])
  })

  when(!withoutMemory)(`${rung}: of a publisher that offers another one only`, async (t) => {
    const at = place(t)
    const other = rung === 'direct' ? 'handshake' : 'direct'
    const bus = await at.bus()
    const publisher = await bus.publisher('ticks', { offers: [other] })
    t.deepEqual(publisher.service.offers, [other])
    const subscriber = await bus.subscriber('ticks', { acquire: rung })
    const [error] = (await once(subscriber, 'failed')) as [RingbellError, Service]
    t.is(error.code, 'ERR_RINGBELL_ACQUIRE')
  })
}

test('stream: both sides report the rung; leases are refused', async (t) => {
  const at = place(t)
  const bus = await at.bus()
  const publisher = await bus.publisher('ticks')
  const subscriber = await bus.subscriber('ticks', { acquire: 'stream' })
  await subscriber.attached()
  publisher.send(new Uint8Array(8))
  await subscriber.receive()
  await until(() => publisher.stats().subscribers[0]?.received === 1)
  const [far] = subscriber.stats().sources
  const [near] = publisher.stats().subscribers
  t.deepEqual([far?.rung, near?.rung, near?.slot, near?.backlog], ['stream', 'stream', far?.slot, 0])
  t.deepEqual(far?.subscribers, publisher.stats().subscribers)
  t.is(far?.publisher.messages, 1)
  const error = t.throws<RingbellError>(() => subscriber.tryReceiveBatch({ lifetime: 'lease' }))
  t.is(error?.code, 'ERR_RINGBELL_INVALID_OPTION')
  t.regex(error?.message ?? '', /shared memory.*borrowed/)
})

when(withoutMemory)(
  'without memfd a publisher offers its stream alone, and stats() and doctor() say why',
  async (t) => {
    const at = place(t)
    const bus = await at.bus()
    const publisher = await bus.publisher('ticks')
    t.deepEqual(publisher.service.offers, ['stream'])
    const { offers, fallbacks } = publisher.stats()
    t.deepEqual(offers, ['stream'])
    t.deepEqual(
      fallbacks.map(({ rung, code }) => [rung, code]),
      [
        ['direct', 'ERR_RINGBELL_SYSTEM'],
        ['handshake', 'ERR_RINGBELL_SYSTEM'],
      ],
    )
    t.regex(fallbacks[0]?.reason ?? '', /memfd_create/)
    t.is(await codeOf(() => bus.publisher('other', { offers: ['direct', 'handshake'] })), 'ERR_RINGBELL_SYSTEM')
    const doctor = await bus.doctor()
    t.is(doctor.checks.find(({ check }) => check === 'shared-memory')?.status, 'warn')
    if (!forcedByEnvironment) t.is(doctor.rung, 'stream')
  },
)

test('a wrong way to reconnect is refused at once', async (t) => {
  const bus = await place(t).bus()
  for (const reconnect of [true, { tries: -1 }, { delay: 0 }, { maxDelay: 1.5e10 }, { often: 3 }])
    t.is(
      await codeOf(() => bus.subscriber('ticks', { reconnect: reconnect as never })),
      'ERR_RINGBELL_INVALID_OPTION',
      JSON.stringify(reconnect),
    )
  for (const reconnect of [{}, { tries: 0 }, { delay: 60_000 }, { delay: 100, maxDelay: 50 }] as const)
    await t.notThrowsAsync(async () => bus.subscriber('ticks', { reconnect }))
})
