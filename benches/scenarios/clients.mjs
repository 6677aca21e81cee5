// Many clients of one server. A thousand that stay connected and call at random; and processes (Rust) that a barrier
// releases all at once, each of which attaches and makes one call, to a server in Rust and to one in Node.

import { cast } from '../harness/cast.mjs'
import { crowds, ringbellCrowds } from '../harness/rivals.mjs'
import { alternate } from '../harness/rounds.mjs'
import { program } from '../harness/rust.mjs'

const CONNECTED = 1000
const CONNECTED_QUICKLY = 200
/** So seldom that every rival's server keeps up: what is measured is waiting, not queueing. */
const MEAN_PAUSE_MS = 2000
const AT_ONCE = [1000, 2000]
const AT_ONCE_QUICKLY = [100, 200]

async function connected(context) {
  const clients = context.quick ? CONNECTED_QUICKLY : CONNECTED
  const options = { size: 64, clients, meanPauseMs: MEAN_PAUSE_MS }
  const entries = [...ringbellCrowds(context, ['adaptive', 'sleep'], options), ...crowds(context, options)]
  const span = context.quick ? { warm: 500, ms: 2000 } : { warm: 1000, ms: Math.max(context.ms, 4000) }
  const data = await alternate(entries, { ...context, ...span, title: 'connected clients' })
  return { scenario: 'clients', case: 'connected', metric: 'errors', clients, entries: data }
}

async function atOnce(context, clients) {
  const entries = []
  if (context.has.ringbellRust) {
    entries.push({
      name: 'server in Rust',
      kind: 'ringbell',
      window: () => program(context, 'ringbell-channel', 'attach', { clients }),
    })
  }
  if (context.has.ringbellRust && context.has.ringbell) {
    entries.push({
      name: 'server in Node',
      kind: 'ringbell',
      window: () =>
        cast(context, './ringbell-calls.mjs', async (start, dir) => {
          await start('server', 0, { variant: 'adaptive' })
          return program(context, 'ringbell-channel', 'attach', { clients, dir, server: 'elsewhere' })
        }),
    })
  }
  if (context.has.floors) {
    entries.push({
      name: 'bare Unix socket',
      kind: 'floor',
      window: () => program(context, 'floor', 'attach', { clients }),
    })
  }
  const rounds = { ...context, rounds: Math.min(3, context.rounds), title: `${clients} processes at once` }
  const data = await alternate(entries, rounds)
  return { scenario: 'clients', case: `${clients} at once`, metric: 'lastAnsweredMs', unit: 'ms', entries: data }
}

export async function run(context) {
  const runs = [await connected(context)]
  for (const clients of context.quick ? AT_ONCE_QUICKLY : AT_ONCE) runs.push(await atOnce(context, clients))
  return runs
}
