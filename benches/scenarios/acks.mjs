// What acknowledgements cost and spare: messages, doorbells to a publisher that waits for room, and acknowledgements a second.
// The ring is small, so that the publisher does wait. `immediate` acknowledges a drain at once; a batch of acknowledgements is told
// when its last message is done.

import { alternate } from '../harness/rounds.mjs'
import { Stream } from '../harness/pair.mjs'

const SIZE = 256
const CAPACITY = 64 << 10

const modes = {
  immediate: {},
  'batch of 8': { ack: 'batch', ackBatch: 8 },
  'batch of 32': { ack: 'batch', ackBatch: 32 },
  'batch of 128': { ack: 'batch', ackBatch: 128 },
}

export async function run(context) {
  if (!context.has.ringbell) return []
  const runs = []
  for (const [label, how] of Object.entries({ 'one at a time': 'for-await', 'by callback': 'listen' })) {
    const entries = Object.entries(modes).map(([mode, subscriber]) => {
      const name = `ringbell ${mode}`
      const pair = new Stream({
        title: `${name} ${label}`,
        scratch: context.scratch,
        module: './ringbell.mjs',
        variant: `send+${how}`,
        size: SIZE,
        capacity: CAPACITY,
        subscriber,
        tallies: true,
      })
      return {
        name,
        kind: 'ringbell',
        open: () => pair.open(),
        close: () => pair.close(),
        window: () => pair.window(context),
      }
    })
    runs.push({
      scenario: 'acks',
      case: `${SIZE} B, ${label}`,
      metric: 'doorbellsPerSecond',
      bytes: SIZE,
      entries: await alternate(entries, { ...context, title: `acks ${label}` }),
    })
  }
  return runs
}
