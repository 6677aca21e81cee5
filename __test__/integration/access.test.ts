/**
 * Topics and records for other users, with real ones: children become them, which takes root. Elsewhere the tests say that they
 * did not; CI runs as root. What hostile ones can do is tried in crates/core/src/topic/tests/guests.rs.
 */
import { chmodSync, rmdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import type { Rung } from 'ringbell'
import { payload } from '../fixtures/payload.mjs'
import { asRoot, GUEST, STRANGER } from '../helpers/as-root.js'
import { Cli } from '../helpers/cli-process.js'
import { peer } from '../helpers/peer.js'
import { codeOf, place, until } from '../helpers/place.js'
import { forcedByEnvironment, rungs, withoutMemory } from '../helpers/rungs.js'

for (const rung of rungs.filter((one) => one !== 'direct')) {
  asRoot(`${rung}: a guest reads everything, and is known by its user`, async (t) => {
    const at = place(t)
    chmodSync(at.path, 0o755)
    const bus = await at.bus()
    const access = { uids: [GUEST], maxGuests: 2 }
    // Where no memory can be shared the stream is what is left of all that is offered.
    const offers: Rung[] | undefined = rung === 'stream' && !withoutMemory ? ['stream'] : undefined
    const publisher = await bus.publisher('ticks', { capacity: 65_536, access, offers })
    t.deepEqual(publisher.service.access, { mode: '0666', uids: [GUEST], gids: [] })
    t.is(publisher.service.topic?.maxGuests, 2)
    const guest = peer(at, 'guest.mjs', [GUEST, 'ticks', 5000])
    const attached = await guest.tells('attached')
    t.is(attached['rung'], rung)
    t.is(attached['guest'], true)
    if (!forcedByEnvironment)
      t.is((attached['fallbacks'] as { code: string }[])[0]?.code, rung === 'stream' ? 'NOT_OFFERED' : 'OTHER_USER')
    t.deepEqual(
      publisher.stats().subscribers.map((one) => [one.slot, one.uid, one.rung]),
      [[64, GUEST, rung]],
    )
    for (let number = 0; number < 5000; number++) {
      while (!publisher.send(payload(number))) await publisher.ready()
      // Now and then it has time to fall asleep.
      if (number % 500 === 0) await until(() => publisher.stats().subscribers[0]?.backlog === 0)
    }
    t.is((await guest.tells('received'))['received'], 5000)
    await publisher.close()
    t.is((await guest.tells('ended'))['reason'], 'closed')
  })
}

asRoot('a user without access is refused', async (t) => {
  const at = place(t)
  chmodSync(at.path, 0o755)
  const bus = await at.bus()
  const named = await bus.publisher('named', { access: { uids: [GUEST] } })
  const closed = await bus.publisher('closed')
  for (const [uid, topic] of [
    [STRANGER, 'named'],
    [GUEST, 'closed'],
  ] as const) {
    const stranger = peer(at, 'guest.mjs', [uid, topic, 1])
    const { code } = await stranger.tells('failed')
    t.is(code, 'ERR_RINGBELL_ACQUIRE')
  }
  t.is(named.subscribers + closed.subscribers, 0)
})

asRoot('a guest that is killed gives way', async (t) => {
  const at = place(t)
  chmodSync(at.path, 0o755)
  const bus = await at.bus()
  const access = { uids: [GUEST], evictAfter: 3_600_000 }
  const publisher = await bus.publisher('ticks', { capacity: 4096, access })
  const guest = peer(at, 'guest.mjs', [GUEST, 'ticks', 1])
  await guest.tells('attached')
  guest.kill('SIGSTOP')
  while (publisher.send(Buffer.alloc(100)));
  const room = publisher.ready()
  guest.kill('SIGKILL')
  await room
  t.true(publisher.send(Buffer.alloc(100)))
  await until(() => publisher.subscribers === 0)
})

test('records and sockets have exactly the access that was asked for', async (t) => {
  const at = place(t)
  const bus = await at.bus({ group: process.getgid?.() ?? 0, path: join(at.path, 'shared') })
  at.onEnd(async () => {
    await bus.close()
    rmdirSync(join(at.path, 'shared'))
  })
  t.is(statSync(bus.path).mode & 0o7777, 0o3770)
  const mode = (name: string): number => statSync(join(bus.path, name)).mode & 0o777
  const { service } = await bus.publisher('ticks', { access: {} })
  t.is(mode(`ticks@${service.id}.json`), 0o640)
  t.is(mode(`${service.id}.sock`), 0o660)
  t.is(service.access?.group, process.getgid?.())
  const announced = await bus.announce('api', { access: { mode: 0o666 }, endpoints: { http: 'unix:/run/api.sock' } })
  t.is(mode(`api@${announced.service.id}.json`), 0o644)
  announced.update({ ready: true })
  t.is(mode(`api@${announced.service.id}.json`), 0o644, 'a new file, the same rights')
})

test('a directory that is not shared as asked for is refused', async (t) => {
  const at = place(t)
  const group = process.getgid?.() ?? 0
  t.is(await codeOf(() => at.bus({ group })), 'ERR_RINGBELL_BUS_DIRECTORY')
  chmodSync(at.path, 0o3770)
  await at.bus({ group })
  t.is(await codeOf(() => at.bus()), 'ERR_RINGBELL_BUS_DIRECTORY')
  t.is(await codeOf(() => at.bus({ group: 'no-such-group' })), 'ERR_RINGBELL_INVALID_OPTION')
})

test('access that permits nobody is no access', async (t) => {
  const bus = await place(t).bus()
  t.is(await codeOf(() => bus.publisher('x', { access: {} })), 'ERR_RINGBELL_INVALID_OPTION')
  t.is(
    await codeOf(() => bus.publisher('x', { access: { uids: [1] }, offers: ['direct'] })),
    'ERR_RINGBELL_INVALID_OPTION',
  )
})

test('inspect and doctor show it', async (t) => {
  const at = place(t)
  const bus = await at.bus()
  await bus.publisher('ticks', { access: { uids: [7], gids: [8, 9], maxGuests: 3 } })
  const shown = await new Cli(at.path, ['inspect', 'ticks']).end
  t.regex(String(shown.stdout), /access +uids 7; gids 8, 9 \(mode 0666\), up to 3 guests/)
  const { checks } = await bus.doctor()
  t.is(
    checks.find(({ check }) => check === 'access')?.detail,
    'private: no other user can enter; 1 of 1 topics and servers are for other users',
  )
})
