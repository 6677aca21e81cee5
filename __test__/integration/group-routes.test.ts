/** Servers, publishers, clients and subscribers of a service group: only the primary acts, and its callers follow it. */
import { rmSync } from 'node:fs'
import test from 'ava'
import type { Bus, Client, Member, Server } from 'ringbell'
import { codeOf, place, until } from '../helpers/place.js'

interface Instance {
  readonly bus: Bus
  readonly member: Member
  readonly server: Server<unknown>
}

type Handler = (name: string, request: unknown) => unknown

async function instance(bus: Bus, name: string, handler: Handler = (who) => who): Promise<Instance> {
  const member = await bus.join('price', { grace: 30_000 })
  const server = await bus.serve('price', { codec: 'json', member }, (request) => handler(name, request))
  return { bus, member, server }
}

function follow(bus: Bus): Promise<Client<unknown, unknown>> {
  return bus.connect<unknown, unknown>('price', { codec: 'json', route: 'primary' })
}

/** The records say who is primary. */
function role(bus: Bus, { server }: Instance): string | undefined {
  return bus.services.list().find(({ id }) => id === server.service.id)?.group?.role
}

test('a server refuses while its member is not primary, and its record says so', async (t) => {
  const at = place(t)
  const one = await instance(await at.bus(), 'one')
  const term = await one.member.primary
  const other = await instance(await at.bus(), 'other')
  const bus = await at.bus()
  t.deepEqual(one.server.service.group, { role: 'primary', epoch: term.epoch })
  t.deepEqual(other.server.service.group, { role: 'standby', epoch: 0 })
  const client = await bus.connect<unknown, unknown>('price', { codec: 'json', route: 'round-robin' })
  await until(() => client.connections.length === 2)
  const answers = [await codeOf(() => client.call(1)), await codeOf(() => client.call(1))]
  t.deepEqual(
    answers.filter((code) => code !== undefined),
    ['ERR_RINGBELL_NOT_PRIMARY'],
  )
  const error = (await client.call(1).catch((thrown: unknown) => thrown)) as Error | string
  const second = error === 'one' ? await client.call(1).catch((thrown: unknown) => thrown) : error
  t.like(second, { name: 'RemoteError', code: 'ERR_RINGBELL_NOT_PRIMARY', remoteCode: 'ERR_RINGBELL_NOT_PRIMARY' })
  await one.member.stepDown()
  const next = await other.member.primary
  t.deepEqual(one.server.service.group, { role: 'standby', epoch: term.epoch })
  t.deepEqual(other.server.service.group, { role: 'primary', epoch: next.epoch })
  // What is not of a group has no role.
  t.is((await bus.serve('plain', () => undefined)).service.group, undefined)
})

test('a client follows the primary, without a failed call', async (t) => {
  const at = place(t)
  const instances = [await instance(await at.bus(), 'one'), await instance(await at.bus(), 'other')]
  const client = await follow(await at.bus())
  let calling = true
  const answers: unknown[] = []
  const loop = (async () => {
    while (calling) answers.push(await client.call('x'))
  })()
  for (let turn = 0; turn < 6; turn++) {
    const { member } = await until(() => instances.find((one) => one.member.role === 'primary'))
    const before = answers.length
    await until(() => answers.length > before + 10)
    t.true(await member.stepDown())
  }
  const all = answers.length
  await until(() => answers.length > all + 10)
  calling = false
  await loop
  t.deepEqual(new Set(answers), new Set(['one', 'other']))
  t.is(client.connections.length, 2)
})

test('a call waits for a primary, and its timeout says that there is none', async (t) => {
  const at = place(t)
  const holder = await at.bus()
  const claim = await holder.claim('price')
  const one = await instance(await at.bus(), 'one')
  const client = await follow(await at.bus())
  await until(() => client.connections.length === 1)
  const error = (await client.call(1, { timeout: 5 }).catch((thrown: unknown) => thrown)) as Error
  t.like(error, { code: 'ERR_RINGBELL_TIMEOUT', cause: { code: 'ERR_RINGBELL_NOT_SENT' } })
  t.regex(error.message, /1 that are not primary/)
  const connected = client.connected()
  const waiting = client.call(1)
  await claim.release()
  t.is(await waiting, 'one')
  t.is((await connected).service?.id, one.server.service.id)
})

test('a call that is for one instance waits until that one is primary', async (t) => {
  const at = place(t)
  const one = await instance(await at.bus(), 'one')
  await one.member.primary
  const other = await instance(await at.bus(), 'other')
  const client = await follow(await at.bus())
  await until(() => client.connections.length === 2)
  t.is(await client.call(1), 'one')
  const meant = client.call(1, { instance: other.server.service.id })
  // It does not change where the others go.
  t.is(await client.call(1), 'one')
  t.is(await client.call(1, { instance: one.server.service.id }), 'one')
  const streamed = client.stream(1, { instance: other.server.service.id }).next()
  await one.member.stepDown()
  t.is(await meant, 'other')
  t.is((await streamed).value, 'other')
})

test('calls that run at a step-down are answered first, or end as unknown when the grace is over', async (t) => {
  const at = place(t)
  const finish: (() => void)[] = []
  const aborted: string[] = []
  const begun: unknown[] = []
  const slow: Handler = async (name, request) => {
    begun.push(request)
    if (request === 'quick') return name
    await new Promise<void>((done) => finish.push(done))
    return `${name} ${String(request)}`
  }
  const one = await instance(await at.bus(), 'one', slow)
  const term = await one.member.primary
  const other = await instance(await at.bus(), 'other', slow)
  const client = await follow(await at.bus())
  const running = client.call('a')
  await until(() => begun.length === 1)
  const down = one.member.stepDown()
  t.is(one.member.role, 'standby')
  // A new call is refused by the old one, and waits for the next.
  const late = client.call('quick')
  t.is(other.member.role, 'standby')
  finish.pop()?.()
  t.is(await running, 'one a')
  await down
  t.is(await late, 'other')
  await other.member.stepDown()
  await one.member.primary
  const lost = client.call('b')
  const again = client.call('c', { idempotent: true })
  await until(() => finish.length === 2)
  term.signal.addEventListener('abort', () => aborted.push('first'))
  await one.member.stepDown({ grace: 5 })
  t.is(await codeOf(() => lost), 'ERR_RINGBELL_OUTCOME_UNKNOWN')
  await until(() => finish.length === 3)
  for (const done of finish) done()
  t.is(await again, 'other c')
  // The old handlers have answered too late, and nobody has heard it.
  t.deepEqual(begun, ['a', 'quick', 'b', 'c', 'c'])
})

test('the signal of a handler fires when the term ends before it has answered', async (t) => {
  const at = place(t)
  const bus = await at.bus()
  const member = await bus.join('price', { grace: 1 })
  const reasons: unknown[] = []
  await bus.serve('price', { codec: 'json', member }, (_request, { signal }) => {
    signal.addEventListener('abort', () => reasons.push((signal.reason as { code: string }).code))
    return new Promise(() => {})
  })
  const client = await follow(await at.bus())
  await member.primary
  const call = codeOf(() => client.call(1))
  await until(() => client.stats().inFlight === 1 && client.connections.length === 1)
  await until(async () => (await bus.counters('price'))[0]?.server?.inHand === 1)
  await member.leave()
  t.is(await call, 'ERR_RINGBELL_OUTCOME_UNKNOWN')
  t.deepEqual(reasons, ['ERR_RINGBELL_NOT_PRIMARY'])
})

test('a stream that has not begun goes to the primary, and one that runs ends as unknown', async (t) => {
  const at = place(t)
  const endless = async function* (name: string): AsyncGenerator<string> {
    for (;;) {
      yield name
      await new Promise((done) => setImmediate(done))
    }
  }
  const one = await instance(await at.bus(), 'one', endless)
  await one.member.primary
  await instance(await at.bus(), 'other', endless)
  const client = await follow(await at.bus())
  const first = client.stream('x')
  t.is((await first.next()).value, 'one')
  await one.member.stepDown({ grace: 5 })
  const rest = async (): Promise<void> => {
    for await (const value of first) t.is(value, 'one')
  }
  t.is(await codeOf(rest), 'ERR_RINGBELL_OUTCOME_UNKNOWN')
  const second = client.stream('x')
  t.is((await second.next()).value, 'other')
  await second.return()
})

test('an old primary that lost its claim with the directory is fenced, and its calls are not answered', async (t) => {
  const at = place(t, { untidy: true })
  const one = await instance(await at.bus(), 'one', () => new Promise(() => {}))
  const term = await one.member.primary
  const client = await follow(await at.bus())
  const call = codeOf(() => client.call(1))
  await until(() => client.stats().inFlight === 1)
  await until(async () => (await one.bus.counters('price'))[0]?.server?.inHand === 1)
  rmSync(at.path, { recursive: true })
  // It takes the claim again before anybody else may, or its term ends. Both are right; a second primary in the epoch is not.
  const other = await instance(await at.bus(), 'other')
  await Promise.race([term.ended, until(() => role(other.bus, one) === 'primary')])
  if (one.member.term === term) {
    t.is(other.member.role, 'standby')
    await one.member.stepDown({ grace: 1 })
  }
  t.is(await call, 'ERR_RINGBELL_OUTCOME_UNKNOWN')
  t.true((await other.member.primary).epoch > term.epoch)
  t.is(await client.call(2), 'other')
})

test('a publisher of a standby sends nothing, and a subscriber reads one term after the other', async (t) => {
  const at = place(t)
  const buses = [await at.bus(), await at.bus(), await at.bus()]
  const members = await Promise.all(buses.map((bus) => bus.join('price')))
  const publishers = await Promise.all(
    members.map((member, at) => (buses[at] as Bus).publisher('ticks', { codec: 'json', member })),
  )
  const reader = await at.bus()
  const subscriber = await reader.subscriber('ticks', { codec: 'json', route: 'primary' })
  await subscriber.attached({ count: 3 })
  const sent: number[] = []
  let next = 0
  for (let turn = 0; turn < 5; turn++) {
    const index = await until(() => {
      const found = members.findIndex(({ role: now }) => now === 'primary')
      return found >= 0 && { found }
    })
    const publisher = publishers[index.found]
    for (const other of publishers)
      if (other !== publisher) t.is(await codeOf(() => other.send(-1)), 'ERR_RINGBELL_NOT_PRIMARY')
    for (let count = 0; count < 100; count++) {
      t.true(publisher?.send(next))
      sent.push(next++)
    }
    if (turn < 4) await members[index.found]?.stepDown()
  }
  const got: unknown[] = []
  while (got.length < sent.length) got.push((await subscriber.receive()).value)
  t.deepEqual(got, sent)
  t.is(subscriber.stats().missed, 0)
})

test('a member that joins later is read from its first message', async (t) => {
  const at = place(t)
  const first = await at.bus()
  const member = await first.join('price')
  await member.primary
  const publisher = await first.publisher('ticks', { codec: 'json', member })
  const subscriber = await (await at.bus()).subscriber('ticks', { codec: 'json', route: 'primary' })
  await subscriber.attached()
  publisher.send('first')
  await member.leave()
  const second = await at.bus()
  const next = await second.join('price')
  await next.primary
  const later = await second.publisher('ticks', { codec: 'json', member: next })
  // At once, before anybody can have attached.
  for (let count = 0; count < 10; count++) later.send(count)
  t.is((await subscriber.receive()).value, 'first')
  for (let count = 0; count < 10; count++) t.is((await subscriber.receive()).value, count)
})

test('waits of a publisher end with the term', async (t) => {
  const at = place(t)
  const bus = await at.bus()
  const member = await bus.join('price')
  await member.primary
  const publisher = await bus.publisher('ticks', { capacity: 4096, member })
  const subscriber = await (await at.bus()).subscriber('ticks')
  await subscriber.attached()
  while (publisher.send(new Uint8Array(256)));
  const ready = codeOf(() => publisher.ready())
  const write = codeOf(() => publisher.write(new Uint8Array(256)))
  const batch = publisher.batch()
  await member.drain()
  t.is(await ready, 'ERR_RINGBELL_NOT_PRIMARY')
  t.is(await write, 'ERR_RINGBELL_NOT_PRIMARY')
  t.is(await codeOf(() => batch.push(new Uint8Array(1))), 'ERR_RINGBELL_NOT_PRIMARY')
  t.is(await codeOf(() => publisher.loan(1)), 'ERR_RINGBELL_NOT_PRIMARY')
})

test('what is not of a group is not followed, and wrong options are refused', async (t) => {
  const at = place(t)
  const bus = await at.bus()
  await bus.publisher('plain')
  const subscriber = await bus.subscriber('plain', { route: 'primary' })
  const [error] = await new Promise<[{ code: string; message: string }]>((failed) =>
    subscriber.once('failed', (...args: unknown[]) => failed(args as [{ code: string; message: string }])),
  )
  t.is(error.code, 'ERR_RINGBELL_REFUSED')
  t.regex(error.message, /no member of a group/)
  const wrong = async (call: () => unknown): Promise<void> => {
    const invalid = (await Promise.resolve()
      .then(call)
      .catch((thrown: unknown) => thrown)) as { code?: string }
    t.is(invalid.code, 'ERR_RINGBELL_INVALID_OPTION')
  }
  const member = await bus.join('price')
  await wrong(() => bus.subscriber('x.*', { route: 'primary' }))
  await wrong(() => bus.subscriber('x', { route: 'first' as never }))
  await wrong(() => bus.connect('x', { route: 'all' as never }))
  await wrong(() => bus.serve('x', { member: {} as never }))
  await wrong(() => bus.serve('x', { group: { role: 'primary', epoch: 1 } } as never))
  await wrong(() => bus.publisher('x', { group: { role: 'primary', epoch: 1 } } as never))
  await wrong(() => bus.publisher('x', { member: 7 as never }))
  await wrong(() => bus.queue('x', { group: {} } as never))
  await member.leave()
  t.is(await codeOf(() => bus.serve('x', { member })), 'ERR_RINGBELL_CLOSED')
  t.is(await codeOf(() => bus.publisher('x', { member })), 'ERR_RINGBELL_CLOSED')
})
