/** The bus itself: options judged before anything is touched, gc, the doctor, directories that are refused. */
import { chmodSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { Bus, errorCodes, RingbellError } from 'ringbell'
import { peer } from '../helpers/peer.js'
import { codeOf, place, until } from '../helpers/place.js'

const INVALID = 'ERR_RINGBELL_INVALID_OPTION'

test('a wrong option is refused with its name and value', async (t) => {
  const at = place(t)
  const bus = await at.bus()
  const wrong: [string, () => unknown][] = [
    ['capacity', () => bus.publisher('x', { capacity: 5000 })],
    ['capacity', () => bus.publisher('x', { capacity: 2 ** 31 })],
    ['overflow', () => bus.publisher('x', { overflow: 'fail' as never })],
    ['maxSubscribers', () => bus.publisher('x', { maxSubscribers: 0 })],
    ['maxSubscribers', () => bus.publisher('x', { maxSubscribers: 1025 })],
    ['evictAfter', () => bus.publisher('x', { evictAfter: -1 })],
    ['evictAfter', () => bus.publisher('x', { evictAfter: 100, overflow: 'drop-oldest' })],
    ['codec', () => bus.publisher('x', { codec: 'msgpack' as never })],
    ['wait', () => bus.publisher('x', { wait: 'nap' as never })],
    ['metadata', () => bus.publisher('x', { metadata: [] as never })],
    ['offers', () => bus.publisher('x', { offers: ['pigeon'] as never })],
    ['kapacity', () => bus.publisher('x', { kapacity: 4096 } as never)],
    ['from', () => bus.subscriber('x', { from: 'yesterday' as never })],
    ['acquire', () => bus.subscriber('x', { acquire: 'pigeon' as never })],
    ['options', () => bus.publisher('x', null as never)],
    ['options', () => bus.subscriber('x', null as never)],
    ['options', () => bus.announce('x', null as never)],
    ['metadata.big', () => bus.publisher('x', { metadata: { big: 1n } })],
    ['metadata.f', () => bus.announce('x', { metadata: { f: () => 1 } })],
    ['metadata.list[1].f', () => bus.serve('x', { metadata: { list: [0, { f: () => 1 }] } })],
    ['metadata.s', () => bus.queue('x', { metadata: { s: Symbol('s') } })],
    ['kind', () => bus.announce('x', { kind: 7 as never })],
    ['timeout', () => bus.services.waitFor('x', { timeout: -5 })],
    ['path', () => Bus.open({ path: 5 as never })],
    ['pollInterval', () => Bus.open({ pollInterval: 0 })],
    ['domain', () => Bus.open({ path: at.path, domain: '../x' })],
    ['system', () => Bus.open({ path: at.path, system: true })],
  ]
  for (const [option, call] of wrong) {
    const error = await t.throwsAsync<RingbellError>(async () => call(), { instanceOf: RingbellError }, option)
    t.true(error.code === INVALID || error.code === 'ERR_RINGBELL_INVALID_NAME', `${option}: ${error.code}`)
    t.true(error.message.includes(option), `${option}: ${error.message}`)
  }
  t.deepEqual(at.files(), [])
})

test('a name of the wrong form is shown', async (t) => {
  const bus = await place(t).bus()
  for (const name of ['', 'ä', 'a/b', '.a', 'a b', 'x'.repeat(65)]) {
    for (const call of [() => bus.publisher(name), () => bus.announce(name), () => bus.services.waitFor(name)])
      t.is(await codeOf(call), 'ERR_RINGBELL_INVALID_NAME', name)
  }
  t.is(await codeOf(() => bus.subscriber('a b*')), 'ERR_RINGBELL_INVALID_NAME')
  for (const name of [undefined, null, 5, {}])
    t.is(await codeOf(() => bus.subscriber(name as string)), 'ERR_RINGBELL_INVALID_NAME')
})

test('directories that others could tamper with are refused', async (t) => {
  const at = place(t, { untidy: true })
  const open = join(at.path, 'open')
  mkdirSync(open)
  chmodSync(open, 0o777)
  symlinkSync(open, join(at.path, 'link'))
  writeFileSync(join(at.path, 'file'), '')
  for (const name of ['open', 'link', 'file'])
    t.is(await codeOf(() => Bus.open({ path: join(at.path, name) })), 'ERR_RINGBELL_BUS_DIRECTORY', name)
})

test('gc removes files of dead processes, and keeps those of live ones', async (t) => {
  const at = place(t)
  const child = peer(at, 'publish.mjs', ['dead'])
  await child.tells('ready')
  t.is(at.files().length, 2)
  child.kill('SIGKILL')
  await child.end
  const bus = await at.bus()
  const alive = await bus.announce('alive')
  const { records, sockets, alive: living } = await bus.gc()
  // The bus that announced watches nobody, so the remains were gc's to find.
  t.deepEqual([records, sockets, living], [1, 1, 1])
  t.deepEqual(
    bus.services.list().map(({ id }) => id),
    [alive.service.id],
  )
  t.like(await bus.gc(), { records: 0, sockets: 0, alive: 1 })
})

test('a watch cleans up after dead processes', async (t) => {
  const at = place(t)
  const bus = await at.bus()
  const child = peer(at, 'publish.mjs', ['dead'])
  await bus.services.waitFor('dead')
  child.kill('SIGKILL')
  await until(() => bus.services.find('dead') === undefined && at.files().length === 0)
  t.pass()
})

test('the doctor finds things, and changes nothing', async (t) => {
  const at = place(t)
  const bus = await at.bus()
  const doctor = (await bus.doctor()) as {
    status: string
    rung: string
    reason: string
    checks: { check: string; status: string; detail: string; advice: string }[]
  }
  t.true(['ok', 'warn', 'fail'].includes(doctor.status))
  t.true(['direct', 'handshake', 'stream'].includes(doctor.rung))
  t.is(typeof doctor.reason, 'string')
  const names = doctor.checks.map(({ check }) => check)
  t.is(new Set(names).size, names.length)
  for (const name of ['kernel', 'yama', 'directory']) t.true(names.includes(name), names.join())
  for (const one of doctor.checks) {
    t.true(['ok', 'warn', 'fail'].includes(one.status), one.check)
    t.true(one.detail.length > 0, one.check)
  }
  t.deepEqual(at.files(), [])
})

test('every code is in the list', (t) => {
  t.is(new Set(errorCodes).size, errorCodes.length)
  t.true(errorCodes.every((code) => /^ERR_RINGBELL_[A-Z_]+$/.test(code)))
})
