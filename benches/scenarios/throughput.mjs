// One way, as fast as it goes: 64 B to 1 MiB. Also where CPU time per message comes from.

import { alternate } from '../harness/rounds.mjs'
import { capacity, ringbellStreams, streams } from '../harness/rivals.mjs'
import { entry } from '../harness/rust.mjs'

export const sizes = { '64 B': 64, '256 B': 256, '4 KiB': 4096, '64 KiB': 65536, '1 MiB': 1 << 20 }

const everyVariant = [
  'send+for-await',
  'send+owned',
  'headers+owned',
  'traced+owned',
  'send+listen',
  'send+borrowed',
  'send+lease',
  'batch+for-await',
  'batch+owned',
  'batch+listen',
  'batch+borrowed',
  'batch+lease',
]
const variants = {
  256: everyVariant,
  64: ['send+owned', 'send+borrowed', 'batch+for-await', 'batch+owned', 'batch+borrowed', 'batch+lease'],
}
/** Beside the hand-batched socket: what the stream rung costs where memory cannot be shared. */
const streamed = {
  256: ['stream+batch+owned', 'stream+batch+borrowed'],
  65536: ['stream+send+owned', 'stream+batch+borrowed'],
}
const largeVariants = ['send+for-await', 'send+owned', 'send+borrowed', 'send+lease', 'batch+owned', 'batch+lease']

export async function run(context) {
  const runs = []
  for (const [label, size] of Object.entries(sizes)) {
    if (context.sizes && !context.sizes.includes(label)) continue
    const chosen = [...(variants[size] ?? largeVariants), ...(streamed[size] ?? [])]
    const entries = [...ringbellStreams(context, size, chosen), ...streams(context, size)]
    if (context.has.floors) {
      entries.push(entry(context, 'memcpy, one core, hot', 'floor', 'floor', 'memcpy', { size }))
      const ring = { size, capacity: capacity(size) }
      if (size < 65536) {
        entries.push(entry(context, 'C-like ring, 64 a commit', 'floor', 'floor', 'ring', { ...ring, batch: 64 }))
      }
    }
    runs.push({
      scenario: 'throughput',
      case: label,
      metric: 'perSecond',
      bytes: size,
      entries: await alternate(entries, { ...context, title: `throughput ${label}` }),
    })
  }
  return runs
}
