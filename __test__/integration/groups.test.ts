/** Members of a service group: one primary, epochs that grow, terms that end in order, and what managers can ask of a member. */
import test from 'ava'
import type { Bus, ControlRequest, Member, MemberStatus } from 'ringbell'
import { codeOf, place, until } from '../helpers/place.js'

async function ask(bus: Bus, request: ControlRequest): Promise<MemberStatus> {
  const client = await bus.connect<ControlRequest, MemberStatus>('price.member', { codec: 'json' })
  try {
    return await client.call(request)
  } finally {
    await client.close()
  }
}

test('one member is primary, and the next one has a larger epoch', async (t) => {
  const at = place(t)
  const [one, other] = [await at.bus(), await at.bus()]
  const first = await one.join('price')
  const term = await first.primary
  t.deepEqual([first.role, first.epoch, first.term], ['primary', term.epoch, term])
  const second = await other.join('price')
  await second.standby
  t.deepEqual([second.role, second.epoch, second.term], ['standby', 0, undefined])
  t.is(one.claims.query('price').epoch, term.epoch)
  const order: string[] = []
  term.signal.addEventListener('abort', () => order.push(`aborted, held by ${one.claims.query('price').epoch}`))
  void second.primary.then(() => order.push('next'))
  t.true(await first.stepDown())
  t.false(await first.stepDown())
  const next = await second.primary
  t.true(next.epoch > term.epoch)
  t.deepEqual([first.role, first.epoch, term.signal.aborted], ['standby', term.epoch, true])
  t.deepEqual(order, [`aborted, held by ${term.epoch}`, 'next'])
  t.is((await term.ended).code, 'ERR_RINGBELL_NOT_PRIMARY')
  await second.leave()
  t.true((await first.primary).epoch > next.epoch)
  t.is(await codeOf(() => second.primary), 'ERR_RINGBELL_CLOSED')
  t.is(await codeOf(() => second.stepDown()), 'ERR_RINGBELL_CLOSED')
})

test('a member that is alone is primary again after it has stepped down', async (t) => {
  const at = place(t)
  const member = await (await at.bus()).join('price')
  const { epoch } = await member.primary
  await member.stepDown()
  t.true((await member.primary).epoch > epoch)
})

test('a step-down waits for onStepDown, and no longer than the grace', async (t) => {
  const at = place(t)
  const [one, other] = [await at.bus(), await at.bus()]
  let finish: () => void = () => {}
  const order: string[] = []
  const first = await one.join('price', {
    onStepDown: async (term) => {
      order.push(`stopping ${term.signal.aborted}`)
      await new Promise<void>((done) => (finish = done))
      order.push('stopped')
    },
  })
  await first.primary
  const second = await other.join('price')
  const next = second.primary.then(() => order.push('next'))
  const down = first.stepDown()
  t.is(first.role, 'standby')
  t.is(first.state, 'stepping-down')
  t.like(other.claims.query('price'), { epoch: first.epoch, holder: { pid: process.pid } })
  finish()
  await down
  await next
  t.deepEqual(order, ['stopping true', 'stopped', 'next'])
  await second.stepDown()
  await first.primary
  // Nobody finishes this time.
  await first.stepDown({ grace: 5 })
  await second.primary
  t.is(first.state, 'ready')
})

test('roles are told as they change, and the iteration ends with the member', async (t) => {
  const at = place(t)
  const member = await (await at.bus()).join('price')
  const { epoch } = await member.primary
  const told: unknown[] = []
  const loop = (async () => {
    for await (const info of member.roles()) {
      told.push(info)
      if (info.role === 'primary') void member.drain()
      else await member.leave()
    }
  })()
  await loop
  t.deepEqual(told, [
    { role: 'primary', epoch },
    { role: 'standby', epoch },
  ])
  t.is(await codeOf(() => member.roles()), 'ERR_RINGBELL_CLOSED')
})

test('members are found, and asked, through their control service', async (t) => {
  const at = place(t)
  const [one, other] = [await at.bus(), await at.bus()]
  const first = await one.join('price', { metadata: { zone: 'a' }, heartbeat: 'manual' })
  const { epoch } = await first.primary
  const found = (): unknown => other.services.find('price.member')?.metadata
  await until(() => (found() as { role: string }).role === 'primary')
  t.deepEqual(found(), { zone: 'a', group: 'price', role: 'primary', epoch, state: 'ready', heartbeat: 'manual' })
  t.like(await ask(other, { method: 'status' }), { group: 'price', pid: process.pid, role: 'primary', epoch })
  await until(async () => (await ask(other, { method: 'beat' })).beatAge > 2)
  first.beat()
  const before = performance.now()
  const { beatAge } = await ask(other, { method: 'beat' })
  t.true(beatAge <= performance.now() - before + 1)
  t.like(await ask(other, { method: 'stepDown' }), { group: 'price' })
  t.true((await first.primary).epoch > epoch)
  t.like(await ask(other, { method: 'drain' }), { role: 'standby', state: 'draining' })
  t.is(other.claims.query('price').holder, undefined)
  t.is(await codeOf(() => ask(other, { method: 'jump' } as never)), 'ERR_RINGBELL_REMOTE')
})

test.serial('a manager adds to the metadata by the environment', async (t) => {
  const at = place(t)
  const bus = await at.bus()
  process.env['RINGBELL_MEMBER'] = '{"manager":"m1","zone":"x"}'
  t.teardown(() => delete process.env['RINGBELL_MEMBER'])
  const member = await bus.join('price', { metadata: { zone: 'a' } })
  t.like(member.service.metadata, { manager: 'm1', zone: 'a', group: 'price' })
  process.env['RINGBELL_MEMBER'] = 'nonsense'
  t.is(await codeOf(() => bus.join('price')), 'ERR_RINGBELL_INVALID_OPTION')
})

test('what cannot be a member is refused', async (t) => {
  const at = place(t)
  const bus = await at.bus()
  const joined = (name: unknown, options?: object): Promise<string | undefined> =>
    codeOf(() => bus.join(name as string, options))
  t.is(await joined(7), 'ERR_RINGBELL_INVALID_NAME')
  t.is(await joined('a/b'), 'ERR_RINGBELL_INVALID_NAME')
  t.is(await joined('x'.repeat(60)), 'ERR_RINGBELL_INVALID_NAME')
  t.is(await joined('x', { grace: -1 }), 'ERR_RINGBELL_INVALID_OPTION')
  t.is(await joined('x', { heartbeat: 'thread' }), 'ERR_RINGBELL_INVALID_OPTION')
  t.is(await joined('x', { metadata: { role: 'primary' } }), 'ERR_RINGBELL_INVALID_OPTION')
  t.is(await joined('x', { unknown: 1 }), 'ERR_RINGBELL_INVALID_OPTION')
  await bus.close()
  t.is(await joined('x'), 'ERR_RINGBELL_CLOSED')
})

test('closing the bus ends the term, and the waits for one', async (t) => {
  const at = place(t)
  const [one, other] = [await at.bus(), await at.bus()]
  const first = await one.join('price')
  const term = await first.primary
  const second: Member = await other.join('price')
  const waiting = codeOf(() => second.primary)
  await other.close()
  t.is(await waiting, 'ERR_RINGBELL_CLOSED')
  t.true(second.closed)
  await one.close()
  t.is((await term.ended).code, 'ERR_RINGBELL_CLOSED')
  t.true(term.signal.aborted)
})
