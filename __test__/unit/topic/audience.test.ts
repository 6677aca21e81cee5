/** When a publisher listens for subscribers, and what it makes of the notices of the core. */
import type { EventEmitter } from 'node:events'
import test from 'ava'
import type { NativePublisher } from '../../../src/native.js'
import { Audience, type PublisherEvents } from '../../../src/topic/audience.js'
import { Emitter } from '../../../src/wait/emitter.js'
import type { Poller } from '../../../src/wait/poller.js'

/** A publisher of the core: what it is asked, what it answers. */
class Core {
  readonly asked: string[] = []
  attached = 0
  rung = false
  untold: unknown[] = []

  areAttached(count: number): boolean {
    return this.attached >= count
  }

  get subscribers(): number {
    return this.attached
  }

  listen(): void {
    this.asked.push('listen')
  }

  stopListening(): void {
    this.asked.push('stop')
  }

  isRung(): boolean {
    return this.rung
  }

  notices(): string {
    this.asked.push('notices')
    return this.untold.length === 0 ? '' : JSON.stringify(this.untold.splice(0))
  }
}

class Heard extends Emitter<PublisherEvents> {
  readonly core = new Core()
  held = 0
  readonly audience = new Audience(this.core as unknown as NativePublisher, () => this.core.asked.push('sweep'), this, {
    hold: () => this.held++,
    drop: () => this.held--,
    hurry: () => {},
  } as unknown as Poller)

  override listenerAdded(): void {
    this.audience.listen()
  }
}

/** The intervals of the publisher; the tests say when one is over. */
const intervals = new Set<{ run: () => void }>()
const real = { set: globalThis.setInterval, clear: globalThis.clearInterval }
test.before(() => {
  globalThis.setInterval = ((run: () => void) => {
    const interval = { run, unref: () => interval }
    intervals.add(interval)
    return interval
  }) as unknown as typeof setInterval
  globalThis.clearInterval = ((interval: never) => intervals.delete(interval)) as unknown as typeof clearInterval
})
test.after(() => {
  globalThis.setInterval = real.set
  globalThis.clearInterval = real.clear
})
test.beforeEach(() => intervals.clear())

function tick(): void {
  for (const { run } of intervals) run()
}

const one = { number: 0, slot: 3, pid: 7, rung: 'direct', durable: false }

test.serial('nobody wants to know: the core is asked nothing', (t) => {
  const publisher = new Heard()
  publisher.audience.wake()
  tick()
  ;(publisher as EventEmitter).on('error', () => {})
  publisher.audience.wake()
  tick()
  t.deepEqual(publisher.core.asked, [])
})

test.serial('it listens as long as there is a listener', (t) => {
  const publisher = new Heard()
  const { core } = publisher
  const listener = (): void => {}
  publisher.once('stalled', listener)
  publisher.prependListener('ended', listener)
  t.deepEqual(core.asked.splice(0), ['notices'])
  publisher.audience.wake()
  t.deepEqual(core.asked, [], 'it was rung for room')
  core.rung = true
  publisher.audience.wake()
  tick()
  t.deepEqual(core.asked.splice(0), ['notices', 'sweep', 'notices'])
  publisher.removeAllListeners()
  tick()
  tick()
  t.deepEqual(core.asked.splice(0), ['stop'])
  publisher.on('attached', listener)
  t.deepEqual(core.asked, ['notices'])
})

test.serial('events of one subscriber have one object, in the order of the core', async (t) => {
  const publisher = new Heard()
  const heard: unknown[][] = []
  for (const event of ['attached', 'ended', 'stalled', 'evicted'] as const)
    publisher.on(event, (...details: unknown[]) => heard.push([event, ...details]))
  publisher.core.untold = [
    { type: 'attached', subscriber: one },
    { type: 'stalled', subscriber: one, milliseconds: 1000 },
    { type: 'evicted', subscriber: one, reason: 'stalled' },
    { type: 'ended', subscriber: one, reason: 'evicted' },
  ]
  tick()
  t.deepEqual(heard, [], 'not while the core is asked')
  await Promise.resolve()
  const subscriber = { slot: 3, pid: 7, rung: 'direct', durable: false }
  t.deepEqual(heard, [
    ['attached', subscriber],
    ['stalled', subscriber, 1000],
    ['evicted', subscriber, 'stalled'],
    ['ended', subscriber, 'evicted'],
  ])
  t.is(new Set(heard.map(([, about]) => about)).size, 1)
})

test.serial('a wait takes no notice, so that the first listener hears of everybody', async (t) => {
  const publisher = new Heard()
  const { core } = publisher
  const waiting = publisher.audience.wait(2, undefined)
  t.is(publisher.held, 1)
  t.deepEqual(core.asked.splice(0), ['listen'])
  core.attached = 1
  core.rung = true
  publisher.audience.wake()
  t.is(publisher.held, 1)
  core.attached = 2
  publisher.audience.wake()
  await waiting
  t.is(publisher.held, 0)
  t.deepEqual(core.asked, ['listen', 'listen'])
  tick()
  t.is(core.asked.at(-1), 'stop')
})

test.serial('a subscriber that does not ring is found by the sweep', async (t) => {
  const publisher = new Heard()
  const waiting = publisher.audience.wait(1, undefined)
  publisher.core.attached = 1
  tick()
  await waiting
  t.is(publisher.held, 0)
})

test.serial('the end rejects the waits, and drops what was not told', async (t) => {
  const publisher = new Heard()
  publisher.on('attached', () => t.fail())
  publisher.core.untold = [{ type: 'attached', subscriber: one }]
  tick()
  const waiting = publisher.audience.wait(1, undefined)
  publisher.audience.close(new Error('closed'))
  await t.throwsAsync(waiting, { message: 'closed' })
  publisher.on('ended', () => t.fail())
  publisher.core.asked.length = 0
  tick()
  t.deepEqual(publisher.core.asked, [])
  t.is(publisher.held, 0)
})

/** From now on this call of the core fails. */
function fail(core: Core, call: 'areAttached' | 'listen' | 'stopListening' | 'isRung' | 'notices'): void {
  core[call] = () => {
    throw Object.assign(new Error(call), { code: 'ERR_RINGBELL_SYSTEM' })
  }
}
const told = { name: 'RingbellError', code: 'ERR_RINGBELL_SYSTEM' } as const

test.serial('who asks while the core fails is told, and nothing runs on', async (t) => {
  const publisher = new Heard()
  fail(publisher.core, 'notices')
  t.throws(() => publisher.on('attached', () => {}), told)
  await t.throwsAsync(publisher.audience.wait(1, undefined), told)
  t.deepEqual([intervals.size, publisher.held], [0, 0])
  fail(publisher.core, 'areAttached')
  await t.throwsAsync(publisher.audience.wait(1, undefined), told)
})

for (const call of ['areAttached', 'listen', 'isRung'] as const)
  test.serial(`a core that fails later, at ${call}, ends the waits and the interval`, async (t) => {
    const publisher = new Heard()
    const waiting = publisher.audience.wait(1, undefined)
    publisher.core.rung = true
    fail(publisher.core, call)
    t.notThrows(() => (call === 'isRung' ? publisher.audience.wake() : tick()))
    await t.throwsAsync(waiting, told)
    t.deepEqual([intervals.size, publisher.held], [0, 0])
  })

test.serial('where nobody waits, a process warning tells', async (t) => {
  const warned: string[] = []
  const onWarning = ({ message }: Error): void => void warned.push(message)
  process.on('warning', onWarning)
  t.teardown(() => process.off('warning', onWarning))
  const publisher = new Heard()
  publisher.on('attached', () => {})
  fail(publisher.core, 'notices')
  t.notThrows(tick)
  t.is(intervals.size, 0)
  publisher.removeAllListeners()
  await new Promise(setImmediate)
  t.deepEqual(warned, ['This publisher tells no more of its subscribers: notices'])
})
