// Allocations per message, and what a subscriber costs beyond the mapped ring.

import { cast } from '../harness/cast.mjs'
import { alternate } from '../harness/rounds.mjs'
import { program } from '../harness/rust.mjs'

const MODULE = './ringbell-costs.mjs'
const SUBSCRIBERS = 64
const nodeOptions = ['--expose-gc', '--min-semi-space-size=64', '--max-semi-space-size=64']

export async function run(context) {
  const allocations = []
  const memory = []
  if (context.has.ringbellRust) {
    allocations.push({
      name: 'Rust',
      kind: 'ringbell',
      window: () => program(context, 'ringbell-allocations', 'count'),
    })
    memory.push({
      name: 'Rust',
      kind: 'ringbell',
      window: () => program(context, 'ringbell-topic', 'memory', { subscribers: SUBSCRIBERS }),
    })
  }
  if (context.has.ringbell) {
    allocations.push({
      name: 'Node',
      kind: 'ringbell',
      window: () =>
        cast(context, MODULE, async (start) => {
          const sends = await start('sends', 0, { nodeOptions })
          const { type: _, ...result } = await sends.ask({ type: 'sends' }, 'sent')
          return result
        }),
    })
    memory.push({
      name: 'Node',
      kind: 'ringbell',
      window: () =>
        cast(context, MODULE, async (start) => {
          const publisher = await start('publisher', 0)
          const crowd = await start('crowd', 1, { nodeOptions: ['--expose-gc'] })
          await crowd.ask({ type: 'join', count: SUBSCRIBERS }, 'joined')
          await publisher.ask({ type: 'publish', count: 1000 }, 'published')
          const { type: _, ...result } = await crowd.ask({ type: 'weigh', messages: 1000 }, 'weighed')
          return result
        }),
    })
  }
  const rounds = { ...context, rounds: Math.min(3, context.rounds) }
  return [
    {
      scenario: 'memory',
      case: 'allocations',
      metric: 'heapBytesPerSend',
      unit: 'bytes',
      entries: await alternate(allocations, { ...rounds, title: 'allocations' }),
    },
    {
      scenario: 'memory',
      case: 'a subscriber',
      metric: 'bytesPerSubscriber',
      unit: 'bytes',
      entries: await alternate(memory, { ...rounds, title: 'memory' }),
    },
  ]
}
