// Allocations per message, what a subscriber costs beyond the mapped ring, and what large owned messages leave behind.

import { cast } from '../harness/cast.mjs'
import { alternate } from '../harness/rounds.mjs'
import { program } from '../harness/rust.mjs'

const MODULE = './ringbell-costs.mjs'
const SUBSCRIBERS = 64
const LARGE = { size: 65536, messages: 4096 }
const nodeOptions = ['--expose-gc', '--min-semi-space-size=64', '--max-semi-space-size=64']

export async function run(context) {
  const allocations = []
  const memory = []
  const leftovers = []
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
    leftovers.push({
      name: 'Node',
      kind: 'ringbell',
      window: () =>
        cast(context, MODULE, async (start) => {
          const publisher = await start('publisher', 0)
          const leftover = await start('leftover', 1)
          const received = leftover.ask({ type: 'receive', messages: LARGE.messages }, 'received')
          await publisher.ask({ type: 'publish', count: LARGE.messages, size: LARGE.size }, 'published')
          const { type: _, ...result } = await received
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
    {
      scenario: 'memory',
      case: 'after owned messages of 64 KiB',
      metric: 'bytesAfterSecond',
      unit: 'bytes',
      entries: await alternate(leftovers, { ...rounds, title: 'memory left over' }),
    },
  ]
}
