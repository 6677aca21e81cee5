// One publisher, 1 to 512 subscribers, all awake, on a drop-oldest topic: the publisher's own CPU time.

import { alternate } from '../harness/rounds.mjs'
import { entry } from '../harness/rust.mjs'

export const counts = [1, 8, 64, 512]

export async function run(context) {
  if (!context.has.ringbellRust) return []
  const runs = []
  for (const mode of ['send', 'batch']) {
    const entries = counts.map((subscribers) =>
      entry(context, `${subscribers} subscribers`, 'ringbell', 'ringbell-topic', 'fan-out', { subscribers, mode }),
    )
    runs.push({
      scenario: 'fan-out',
      case: mode,
      metric: 'publisherNanosPerMessage',
      unit: 'ns',
      entries: await alternate(entries, { ...context, title: `fan-out, ${mode}` }),
    })
  }
  return runs
}
