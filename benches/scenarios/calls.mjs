// Calls, Node to Node: one at a time (64 B there and back), awake and asleep, on two cores and on one; and many in
// flight (256 B there and back). Beside them what a call cannot undercut: the bare round trip of two topics, and of a
// Unix socket without numbers and promises.

import { calls, pipelines, ringbellCalls, ringbellRoundTrips, roundTrips } from '../harness/rivals.mjs'
import { alternate } from '../harness/rounds.mjs'
import { entry } from '../harness/rust.mjs'

const SIZE = 64
const PIPELINED = { size: 256, inFlight: 256, capacity: 1 << 20 }

/** gRPC-js and undici take seconds to be compiled. */
const WARM_MS = 1000

export async function run(context) {
  const runs = []
  const span = { ...context, warm: context.quick ? context.warm : WARM_MS }
  const cases = [
    ['two cores', [0, 1], ['adaptive', 'spin', 'sleep'], ['adaptive', 'sleep']],
    ['one core', [0, 0], ['adaptive', 'sleep'], ['sleep']],
  ]
  for (const [label, cores, variants, topics] of cases) {
    const options = { size: SIZE, cores }
    const entries = [
      ...ringbellCalls(context, variants, options),
      ...ringbellRoundTrips(context, SIZE, cores, topics, 'topic'),
      ...calls(context, options),
      ...roundTrips(context, SIZE, cores).filter(({ name }) => name === 'unix socket'),
    ]
    if (context.has.floors) {
      entries.push(
        entry(context, 'bare Unix socket', 'floor', 'floor', 'socket', { size: SIZE, cores: cores.join(',') }),
      )
    }
    runs.push({
      scenario: 'calls',
      case: label,
      metric: 'p50',
      unit: 'ns',
      entries: await alternate(entries, { ...span, title: `calls, ${label}` }),
    })
  }
  const entries = [...ringbellCalls(context, ['adaptive', 'sleep'], PIPELINED), ...pipelines(context, PIPELINED)]
  runs.push({
    scenario: 'calls',
    case: 'pipelined, 256 B',
    metric: 'perSecond',
    bytes: PIPELINED.size,
    inFlight: PIPELINED.inFlight,
    entries: await alternate(entries, { ...span, title: 'calls, pipelined' }),
  })
  return runs
}
