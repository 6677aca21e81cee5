// Rust to Rust, beside iceoryx2 and the floors: 64 B round trip spinning, 256 B one way, waking a sleeper.

import { alternate } from '../harness/rounds.mjs'
import { entry } from '../harness/rust.mjs'

export async function run(context) {
  const { floors, iceoryx2, ringbellRust } = context.has
  const list = (rows) => rows.filter(([has]) => has).map(([, ...row]) => entry(context, ...row))
  const cases = [
    {
      case: 'round trip, spinning',
      metric: 'p50',
      unit: 'ns',
      entries: list([
        [ringbellRust, 'ringbell', 'ringbell', 'ringbell-topic', 'round-trip', { size: 64 }],
        [iceoryx2, 'iceoryx2', 'rival', 'rival-iceoryx2', 'round-trip', { size: 64 }],
        [floors, 'cache line', 'floor', 'floor', 'line', {}],
      ]),
    },
    {
      case: 'one way, 256 B',
      metric: 'perSecond',
      bytes: 256,
      entries: list([
        [ringbellRust, 'ringbell send', 'ringbell', 'ringbell-topic', 'one-way', { size: 256, mode: 'send' }],
        [ringbellRust, 'ringbell batch', 'ringbell', 'ringbell-topic', 'one-way', { size: 256, mode: 'batch' }],
        [iceoryx2, 'iceoryx2', 'rival', 'rival-iceoryx2', 'one-way', { size: 256 }],
        [floors, 'C-like ring, 1 a commit', 'floor', 'floor', 'ring', { size: 256, batch: 1 }],
        [floors, 'C-like ring, 64 a commit', 'floor', 'floor', 'ring', { size: 256, batch: 64 }],
      ]),
    },
    ...['0,1', '0,0'].map((cores) => ({
      case: `wake-up round trip, ${cores === '0,1' ? 'two cores' : 'one core'}`,
      metric: 'p50',
      unit: 'ns',
      entries: list([
        [ringbellRust, 'ringbell', 'ringbell', 'ringbell-topic', 'wake', { size: 64, cores }],
        [iceoryx2, 'iceoryx2 listener', 'rival', 'rival-iceoryx2', 'wake', { cores }],
        [floors, 'bare eventfd', 'floor', 'floor', 'eventfd', { cores }],
      ]),
    })),
  ]
  const runs = []
  for (const { entries, ...rest } of cases) {
    runs.push({
      scenario: 'rust',
      ...rest,
      entries: await alternate(entries, { ...context, title: `Rust, ${rest.case}` }),
    })
  }
  return runs
}
