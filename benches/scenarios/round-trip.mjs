// Round trips of 64 bytes: adaptive and spinning (two cores), and asleep on two cores and on one.

import { alternate } from '../harness/rounds.mjs'
import { ringbellRoundTrips, roundTrips } from '../harness/rivals.mjs'
import { entry } from '../harness/rust.mjs'

const SIZE = 64

export async function run(context) {
  const runs = []
  const cases = [
    ['two cores', [0, 1], ['adaptive', 'adaptive+for-await', 'spin', 'sleep']],
    ['one core', [0, 0], ['sleep']],
  ]
  for (const [label, cores, variants] of cases) {
    const entries = [...ringbellRoundTrips(context, SIZE, cores, variants), ...roundTrips(context, SIZE, cores)]
    if (context.has.floors) {
      entries.push(entry(context, 'bare eventfd', 'floor', 'floor', 'eventfd', { cores: cores.join(',') }))
    }
    runs.push({
      scenario: 'round-trip',
      case: label,
      metric: 'p50',
      unit: 'ns',
      entries: await alternate(entries, { ...context, title: `round trip, ${label}` }),
    })
  }
  return runs
}
