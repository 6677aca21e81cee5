/** An endpoint whose core fails: all four kinds end in the same way, and whoever holds one hears of it. */
import { channel } from 'node:diagnostics_channel'
import type { EventEmitter } from 'node:events'
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

/** The core of the endpoint that was opened last answers nothing else any more. */
function breakIt(fake: FakeBus): void {
  const core = fake.made.at(-1)
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
    t.like(
      events[0]?.find((one) => one instanceof Error),
      { code: 'ERR_RINGBELL_SYSTEM' },
    )
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
