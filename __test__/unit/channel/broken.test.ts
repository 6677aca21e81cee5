/** An endpoint whose core fails: all four kinds end in the same way, and its user is told. */
import { channel } from 'node:diagnostics_channel'
import { type EventEmitter, once } from 'node:events'
import test, { type ExecutionContext } from 'ava'
import type { Bus } from '../../../src/bus/bus.js'
import { fakeBus, type FakeBus, turns } from '../../helpers/fake-channel.js'

type Endpoint = EventEmitter & { readonly closed: boolean; close(): Promise<void> }

interface Stage {
  endpoint: Endpoint
  /** What it has under way, and what that is to be rejected with. */
  pending?: Promise<unknown>
}

const data = Uint8Array.of(1)

const KINDS: Record<string, (bus: Bus) => Promise<Stage>> = {
  client: async (bus) => {
    const client = await bus.connect('nobody')
    return { endpoint: client as unknown as Endpoint, pending: client.call(data) }
  },
  server: async (bus) => ({ endpoint: (await bus.serve('s', () => data)) as unknown as Endpoint }),
  queue: async (bus) => {
    const queue = await bus.queue('q')
    queue.push(data)
    return { endpoint: queue as unknown as Endpoint, pending: queue.drained() }
  },
  worker: async (bus) => ({ endpoint: (await bus.worker('q', () => {})) as unknown as Endpoint }),
}

/** What is published on one channel from now on. */
function published(t: ExecutionContext, name: string): unknown[] {
  const messages: unknown[] = []
  const note = (message: unknown): void => void messages.push(message)
  channel(name).subscribe(note)
  t.teardown(() => channel(name).unsubscribe(note))
  return messages
}

/** From now on every call of an endpoint's core fails; by default that of the endpoint that was opened last. */
function breakIt(fake: FakeBus, which = -1): void {
  const core = fake.made.at(which)
  if (core === undefined) throw new Error('nothing was opened')
  core.broken = Object.assign(new Error('the core is broken'), { code: 'ERR_RINGBELL_SYSTEM' })
  core.wakeSoon()
}

for (const [kind, open] of Object.entries(KINDS)) {
  test.serial(`a broken ${kind} says so, rejects what it has under way, and is closed`, async (t) => {
    const { bus, fake } = fakeBus(t)
    const [closed, failed] = [published(t, `ringbell:${kind}:closed`), published(t, `ringbell:${kind}:failed`)]
    const { endpoint, pending } = await open(bus)
    const events: unknown[][] = []
    endpoint.on('failed', (...details: unknown[]) => events.push(details))
    await turns(3)
    breakIt(fake)
    if (pending !== undefined) await t.throwsAsync(pending, { code: 'ERR_RINGBELL_SYSTEM', message: /core is broken/ })
    await turns(10)
    t.true(endpoint.closed)
    t.is(events.length, 1)
    const [[error, source] = []] = events
    t.like(error, { code: 'ERR_RINGBELL_SYSTEM' })
    t.is(source, undefined)
    t.is(failed.length, 1)
    t.deepEqual(closed, [{ [kind]: endpoint }])
    // The bus does not know of it any more, and closing it changes nothing.
    await endpoint.close()
    await bus.close()
    await turns(3)
    t.is(closed.length, 1)
    t.is(events.length, 1)
  })
}

for (const [which, of] of ['server', 'client'].entries()) {
  test.serial(`a broken ${of} first says which connections have ended`, async (t) => {
    const { bus, fake } = fakeBus(t)
    const server = await bus.serve('s', () => data)
    const client = await bus.connect('s', { reconnect: { tries: 1, delay: 60_000 } })
    await client.connected()
    while (server.connections.length === 0) await turns()
    const endpoint = [server, client][which] as unknown as EventEmitter
    const events: unknown[][] = []
    for (const name of ['disconnected', 'failed'])
      endpoint.on(name, (...details: unknown[]) => events.push([name, ...details]))
    const [connection] = [server, client][which]?.connections ?? []
    breakIt(fake, which)
    while (events.length < 2) await turns()
    t.deepEqual(events[0], ['disconnected', connection, 'closed'])
    t.is(events[1]?.[0], 'failed')
  })
}

for (const kind of ['connect', 'worker'] as const) {
  test.serial(`what ${kind} cannot watch leaves nothing behind`, async (t) => {
    const { bus, fake } = fakeBus(t)
    const watch = fake.watch.bind(fake)
    fake.watch = (name) =>
      Object.defineProperty(watch(name), 'target', {
        set() {
          throw new RangeError('too many')
        },
      })
    await t.throwsAsync(kind === 'connect' ? bus.connect('s') : bus.worker('s', () => {}), { message: 'too many' })
    t.like(fake.made.at(-1), { watched: false, closed: true })
  })

  test.serial(`what ${kind} opens is told of a directory that cannot be read, and goes on`, async (t) => {
    const { bus, fake } = fakeBus(t)
    const endpoint = (await (kind === 'connect' ? bus.connect('s') : bus.worker('s', () => {}))) as unknown as Endpoint
    const events: unknown[][] = []
    endpoint.on('failed', (...details: unknown[]) => events.push(details))
    fake.hide()
    while (events.length === 0) await turns()
    t.like(events[0], [{ name: 'RingbellError', code: 'ERR_RINGBELL_RESOURCE' }, undefined])
    t.false(endpoint.closed)
    const connected = once(endpoint, 'connected')
    await (kind === 'connect' ? bus.serve('s', () => data) : bus.queue('s'))
    await connected
    t.is(events.length, 1)
  })
}
