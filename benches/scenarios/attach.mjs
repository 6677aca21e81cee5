// From the wish for a subscriber to its attachment: both rungs, in Rust and in Node.

import { cast } from '../harness/cast.mjs'
import { alternate } from '../harness/rounds.mjs'
import { program } from '../harness/rust.mjs'
import { distribution } from '../harness/statistics.mjs'

const rungs = ['direct', 'handshake']

export async function run(context) {
  const count = context.quick ? 50 : 300
  const entries = []
  for (const rung of rungs) {
    if (context.has.ringbellRust) {
      entries.push({
        name: `Rust, ${rung}`,
        kind: 'ringbell',
        window: () => program(context, 'ringbell-topic', 'attach', { rung, count }),
      })
    }
    if (context.has.ringbell) {
      entries.push({
        name: `Node, ${rung}`,
        kind: 'ringbell',
        window: () =>
          cast(context, './ringbell-costs.mjs', async (start) => {
            await start('publisher', 0)
            const attacher = await start('attacher', 1)
            await attacher.ask({ type: 'attach', count: 20, rung }, 'attached', 60_000)
            const { nanoseconds } = await attacher.ask({ type: 'attach', count, rung }, 'attached', 60_000)
            return distribution(Float64Array.from(nanoseconds))
          }),
      })
    }
  }
  const data = await alternate(entries, { ...context, title: 'attach' })
  return [{ scenario: 'attach', case: 'both rungs', metric: 'p50', unit: 'ns', entries: data }]
}
