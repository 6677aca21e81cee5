/** Bad luck with the bus directory: removed and made again under running streams, and no inotify to hear of it. */
import { mkdirSync, rmSync } from 'node:fs'
import test from 'ava'
import type { ServiceEvent } from 'ringbell'
import { isPayload, payload } from '../fixtures/payload.mjs'
import { peer } from '../helpers/peer.js'
import { codeOf, place, until } from '../helpers/place.js'

for (const watch of ['inotify', 'poll'] as const) {
  const options = { watch, pollInterval: 20 }

  for (const again of [true, false]) {
    test(`${watch}: directory removed${again ? ' and made again' : ''} while messages flow`, async (t) => {
      const at = place(t)
      const child = peer(at, 'publish.mjs', ['ticks', '{"capacity":32768}'], { env: { IPC_BUS_WATCH: watch } })
      // From now on: what the ring holds from before is overwritten while it is read, which may cost messages.
      const subscriber = await (await at.bus(options)).subscriber('ticks')
      const [attached] = await subscriber.attached()
      subscriber.on('ended', () => t.fail('a living publisher has ended'))
      let removed = 0
      let back = Infinity
      let next: number | undefined
      for await (const { sequence, data } of subscriber) {
        next ??= sequence
        if (sequence !== next || !isPayload(data, next)) throw new Error(`message ${next} is wrong`)
        next++
        if (removed === 0) {
          removed = next
          // Who is slow finds the record there again before the directory is empty.
          rmSync(at.path, { recursive: true, maxRetries: 20 })
          if (again) mkdirSync(at.path, { mode: 0o700 })
        }
        // The publisher announces itself again, and is not joined twice; and then some more flow.
        if (back === Infinity && next % 256 === 0 && again && at.files().some((name) => name.endsWith('.json')))
          back = next
        if (next > (again ? back : removed) + 20_000) break
      }
      t.is(subscriber.stats().missed, 0)
      t.deepEqual(
        subscriber.publishers.map(({ service }) => service.id),
        [attached?.service.id],
      )
      if (!again) mkdirSync(at.path, { mode: 0o700, recursive: true })
      // Newcomers find it as before.
      const late = await (await at.bus(options)).subscriber('ticks')
      await late.attached()
      t.is(late.publishers[0]?.service.pid, child.pid)
      await late.close()
      await subscriber.close()
      child.ask('close')
      await child.tells('sent')
      t.is((await child.end).code, 0)
    })
  }

  test(`${watch}: come, change and go are seen, in order`, async (t) => {
    const at = place(t)
    const bus = await at.bus(options)
    const other = await at.bus(options)
    const events: string[] = []
    const watching = (async () => {
      for await (const { type, service } of bus.services.watch()) {
        events.push(`${type} ${service.name} ${(service.metadata['n'] as number | undefined) ?? ''}`.trim())
        if (type === ('removed' satisfies ServiceEvent['type'])) break
      }
    })()
    const announced = await other.announce('a', { metadata: { n: 1 } })
    await until(() => events.length === 1)
    announced.update({ n: 2 })
    await until(() => events.length === 2)
    const waiting = bus.services.waitFor('b')
    const publisher = await other.publisher('b')
    t.is((await waiting).id, publisher.service.id)
    await until(() => events.length === 3)
    await announced.close()
    await watching
    t.deepEqual(events, ['added a 1', 'updated a 2', 'added b', 'removed a 2'])
  })

  test(`${watch}: a killed publisher ends, and a successor replaces it`, async (t) => {
    const at = place(t)
    const bus = await at.bus(options)
    const subscriber = await bus.subscriber('ticks', { from: 'earliest' })
    for (let life = 0; life < 2; life++) {
      const ended = new Promise((resolve) => subscriber.once('ended', resolve))
      const child = peer(at, 'publish.mjs', ['ticks', '{"capacity":32768}'])
      for await (const { publisher, sequence, data } of subscriber) {
        if (!isPayload(data, sequence)) throw new Error(`message ${sequence} is wrong`)
        if (sequence < 1000 || publisher !== subscriber.publishers[0]?.service.id) continue
        child.kill()
        break
      }
      while (subscriber.tryReceive() !== undefined || subscriber.publishers.length > 0)
        await new Promise((done) => setImmediate(done))
      await ended
      await until(() => at.files().length === 0)
    }
    t.is(subscriber.publishers.length, 0)
  })
}

test('poll: the environment forces it, and a wrong word is refused', async (t) => {
  const at = place(t)
  const child = peer(at, 'subscribe.mjs', ['ticks', '{}', 10], { env: { IPC_BUS_WATCH: 'poll' } })
  await child.tells('ready')
  const publisher = await (await at.bus()).publisher('ticks')
  await child.tells('attached')
  for (let number = 0; number < 10; number++) publisher.send(payload(number))
  t.like(await child.tells('received'), { received: 10, wrong: undefined })
  t.is((await child.end).code, 0)
  const wrong = peer(at, 'subscribe.mjs', ['ticks'], { env: { IPC_BUS_WATCH: 'guess' } })
  t.is((await wrong.end).code, 1)
  t.regex(wrong.stderr, /IPC_BUS_WATCH/)
  t.is(await codeOf(() => at.bus({ watch: 'guess' as never })), 'ERR_RINGBELL_INVALID_OPTION')
})
