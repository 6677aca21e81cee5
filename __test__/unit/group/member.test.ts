/** The terms of a member, over a claim that the test gives and takes. */
import test from 'ava'
import type { RoleInfo } from '../../../src/bus/membership.js'
import { Member, type MemberParts } from '../../../src/group/member.js'
import type { RingbellError } from '../../../src/errors.js'
import { until } from '../../helpers/place.js'

/** A claim that can be lost. */
class Held {
  readonly epoch: number
  readonly lost: Promise<RingbellError>
  lose!: (error: RingbellError) => void
  released = false

  constructor(epoch: number) {
    this.epoch = epoch
    this.lost = new Promise((resolve) => (this.lose = resolve))
  }

  async release(): Promise<void> {
    this.releaseNow()
  }

  releaseNow(): void {
    this.released = true
  }
}

const LOST = Object.assign(new Error('lost'), { code: 'ERR_RINGBELL_CLAIM_LOST' }) as RingbellError

function memberOf(
  options: MemberParts['options'],
  update: (metadata: Record<string, unknown>) => void = () => {},
): { member: Member; claims: Held[] } {
  const claims: Held[] = []
  const control = { closed: false, service: { id: 'x' }, update, closeNow: () => {} }
  const parts = {
    group: 'price',
    options,
    serve: () => control,
    claim: async () => {
      const claim = new Held(claims.length + 1)
      claims.push(claim)
      return claim
    },
    watch: () => ({ async *[Symbol.asyncIterator]() {} }),
    others: () => [],
    sockets: {},
    closed: () => {},
  }
  return { member: new Member(parts as unknown as MemberParts), claims }
}

test('its record and those of its parts are written again until they say the role', async (t) => {
  const written: string[] = []
  const left = { member: 3, part: 3 }
  const write = (what: 'member' | 'part', role: unknown): void => {
    if (role === 'primary' && left[what]-- > 0)
      throw Object.assign(new Error('no descriptors'), { code: 'ERR_RINGBELL_RESOURCE' })
    written.push(`${what} ${String(role)}`)
  }
  const { member } = memberOf({}, ({ role }) => write('member', role))
  t.teardown(() => member.closeNow())
  const failures: string[] = []
  member.on('failed', ({ code }) => failures.push(code))
  const nothing = async (): Promise<void> => {}
  const part = {
    announce: ({ role }: RoleInfo) => write('part', role),
    settled: nothing,
    disown: () => {},
    retire: nothing,
  }
  member.include(part)
  await member.primary
  t.false(written.includes('part primary'))
  await until(() => written.includes('member primary') && written.includes('part primary'))
  t.is(member.role, 'primary')
  t.deepEqual(new Set(failures), new Set(['ERR_RINGBELL_RESOURCE']))
})

test('a claim that is lost during a step-down ends that term alone', async (t) => {
  let finish = (): void => {}
  const stepping = new Promise<void>((resolve) => (finish = resolve))
  const { member, claims } = memberOf({ grace: 60_000, onStepDown: () => stepping })
  t.teardown(() => member.closeNow())
  const first = await member.primary
  const down = member.stepDown()
  t.is(member.state, 'stepping-down')
  claims[0]?.lose(LOST)
  t.is(await first.ended, LOST)
  const second = await member.primary
  t.deepEqual([second.epoch, member.state], [2, 'ready'])
  finish()
  t.true(await down)
  t.deepEqual([second.signal.aborted, member.term, claims[1]?.released], [false, second, false])
  // The next step-down is one of its own.
  t.true(await member.stepDown())
  t.true(second.signal.aborted && claims[1]?.released)
  await until(() => claims.length === 3)
})
