/** Which connection a call to the primary of a group goes to, and whose answers are doubted. */
import test from 'ava'
import type { RoleInfo } from 'ringbell'
import type { PayloadCodec } from '../../../src/codec/payload-codec.js'
import { Call } from '../../../src/channel/call.js'
import type { CallDispatcher } from '../../../src/channel/call-dispatcher.js'
import { Link, type LinkHost, type Pending } from '../../../src/channel/link.js'
import { PrimaryRoute } from '../../../src/channel/primary-route.js'
import { ReplyStream } from '../../../src/channel/reply-stream.js'
import { FLAGS_AT, KIND, NOT_PRIMARY } from '../../../src/channel/wire.js'

class Connection {
  leaving = false
  gone: unknown = undefined
  readonly calls = { size: 0 }
  doubted = false
  role: RoleInfo | undefined

  constructor(role?: RoleInfo['role'], epoch = 0) {
    this.role = role === undefined ? undefined : { role, epoch }
  }

  suspect(): void {
    this.doubted = true
  }

  trust(): void {
    this.doubted = false
  }
}

function routeOf(all: Connection[]): PrimaryRoute<Connection> {
  const route = new PrimaryRoute<Connection>(({ role }) => role)
  route.learn(
    all.map(({ role }) => role),
    all,
  )
  return route
}

test('calls go to the primary of the latest epoch, and to nobody else', (t) => {
  const [plain, standby, primary] = [new Connection(), new Connection('standby', 5), new Connection('primary', 3)]
  const all = [plain, standby, primary]
  const route = routeOf(all)
  t.is(route.pick(all), primary)
  primary.leaving = true
  t.is(route.pick(all), undefined)
  primary.leaving = false
  t.is(route.pick(all), primary)
  primary.gone = new Error('gone')
  t.is(route.pick(all), undefined)
  t.is(routeOf([plain]).pick([plain]), undefined)
})

test('an earlier primary that has not noticed its end is doubted, and gets no calls', (t) => {
  const [old, next] = [new Connection('primary', 1), new Connection('standby', 0)]
  const all = [old, next]
  const route = routeOf(all)
  t.is(route.pick(all), old)
  next.role = { role: 'primary', epoch: 2 }
  route.learn([next.role], all)
  t.deepEqual([old.doubted, next.doubted], [true, false])
  t.is(route.pick(all), next)
  // Its successor is not connected any more, and that does not bring it back.
  t.is(route.pick([old]), next)
  next.gone = new Error('gone')
  t.is(route.pick([old]), undefined)
  route.learn([old.role], [old])
  t.true(old.doubted)
  // It has noticed.
  old.role = { role: 'standby', epoch: 1 }
  route.learn([old.role], [old])
  t.false(old.doubted)
})

test('one that has stepped down is not doubted: it answers its calls, or refuses them itself', (t) => {
  const [old, next] = [new Connection('primary', 1), new Connection('standby', 0)]
  const all = [old, next]
  const route = routeOf(all)
  old.role = { role: 'standby', epoch: 1 }
  next.role = { role: 'primary', epoch: 2 }
  route.learn([next.role, old.role], all)
  t.false(old.doubted)
})

test('one that has refused a call gets none until a later term', (t) => {
  const one = new Connection('primary', 1)
  const route = routeOf([one])
  t.is(route.pick([one]), one)
  route.refusedBy(one, route.epoch)
  t.is(route.pick([one]), undefined)
  // Its record is late.
  route.learn([one.role], [one])
  t.is(route.pick([one]), undefined)
  one.role = { role: 'primary', epoch: 2 }
  route.learn([one.role], [one])
  t.is(route.pick([one]), one)
})

test('a refusal that comes late does not concern the term that has begun since', (t) => {
  const one = new Connection('primary', 1)
  const route = routeOf([one])
  const sent = route.epoch
  route.refusedBy(one, sent)
  // It is alone, so it is primary again. Its record is read before the last refusals.
  one.role = { role: 'primary', epoch: 2 }
  route.learn([one.role], [one])
  route.refusedBy(one, sent)
  t.is(route.pick([one]), one)
  // A late one does not take back a later one either.
  route.refusedBy(one, route.epoch)
  route.refusedBy(one, sent)
  t.is(route.pick([one]), undefined)
})

/** A call that tells what becomes of it. */
class Told implements Pending {
  id = 0
  ordinal = 0
  readonly what: string[] = []
  sent(): void {}
  reply(): void {
    this.what.push('reply')
  }
  error(flags: number): void {
    this.what.push(`error ${flags}`)
  }
  chunk(): void {
    this.what.push('chunk')
  }
  end(): void {
    this.what.push('end')
  }
  lost(reached: boolean): void {
    this.what.push(`lost ${reached}`)
  }
  target(): undefined {
    return undefined
  }
  fail(): void {}
  tooLarge(): void {}
}

const NOTHING = new Uint8Array(0)

test('a call and a stream tell in which epoch they were sent, when they are refused', (t) => {
  const refusals: unknown[] = []
  const dispatcher = {
    epoch: 1,
    begin: () => {},
    done: () => {},
    refusedBy: (_: unknown, epoch: number) => refusals.push(epoch) > 0,
    redispatch: () => true,
  }
  const payloads = { own: true, encode: () => NOTHING } as unknown as PayloadCodec
  const link = { ask: () => true, post: () => {} } as unknown as Link
  const by = dispatcher as unknown as CallDispatcher
  for (const one of [new Call(by, payloads, 0), new ReplyStream(by, payloads, 0, () => {}, {})]) {
    dispatcher.epoch = 1
    t.true(one.sendOn(link))
    dispatcher.epoch = 2
    one.error(NOT_PRIMARY, NOTHING)
    // It is sent again, in the later one.
    t.true(one.sendOn(link))
    one.error(NOT_PRIMARY, NOTHING)
  }
  t.deepEqual(refusals, [1, 2, 1, 2])
})

function linkWith(...calls: Told[]): Link {
  const hot = { send: () => 1 }
  const link = new Link({ hot } as unknown as LinkHost, 0, { pid: 1, uid: 1 }, 4096)
  for (const call of calls) link.ask(call, 0, 0, NOTHING, true)
  return link
}

test('answers of a doubted process are kept back until it has noticed', (t) => {
  const [one, two, three] = [new Told(), new Told(), new Told()]
  const link = linkWith(one, two, three)
  link.suspect(60_000, 'it is replaced')
  link.receive(KIND.reply, one.id, 0, NOTHING)
  t.deepEqual(one.what, [])
  link.trust()
  t.deepEqual(one.what, ['reply'])
  link.suspect(60_000, 'it is replaced')
  link.receive(KIND.reply, two.id, 0, NOTHING)
  // Its refusal says that it has noticed, before its record does.
  link.receive(KIND.error | (NOT_PRIMARY << FLAGS_AT), three.id, 0, NOTHING)
  t.deepEqual([two.what, three.what], [['reply'], [`error ${NOT_PRIMARY}`]])
})

test('answers of one that does not notice count for nothing', async (t) => {
  const [one, two] = [new Told(), new Told()]
  const link = linkWith(one, two)
  link.suspect(1, 'it is replaced')
  link.receive(KIND.reply, one.id, 0, NOTHING)
  while (one.what.length === 0) await new Promise((done) => setTimeout(done, 1))
  t.deepEqual([one.what, two.what, link.calls.size], [['lost true'], ['lost true'], 0])
  link.trust()
  link.receive(KIND.reply, two.id, 0, NOTHING)
  t.deepEqual([one.what, two.what], [['lost true'], ['lost true']])
})
