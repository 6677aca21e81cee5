// A state: reading 64 B in Rust and in Node while its writer updates it a million times a second, beside iceoryx2's blackboard,
// lmdb-js and Redis; the rate of a writer that has 0 to 64 readers, each of which looks a thousand times a second; and
// two processes that answer each other's changes asleep, beside the same with topics.

import { cast } from '../harness/cast.mjs'
import { ringbellRoundTrips } from '../harness/rivals.mjs'
import { alternate } from '../harness/rounds.mjs'
import { entry } from '../harness/rust.mjs'

const RATE = 1_000_000
const SIZE = 64
/** Readers in Node: name, module, variant, and what they need. Those with a writer in Node have a role for it. */
const IN_NODE = [
  ['Node readInto', 'ringbell', './ringbell-state.mjs', '', 'ringbellRust'],
  ['lmdb-js get', 'rival', './lmdb.mjs', '', 'lmdb'],
  ['lmdb-js get, newest', 'rival', './lmdb.mjs', 'newest', 'lmdb'],
  ['Redis GET', 'rival', './redis.mjs', '', 'redis'],
]

export async function run(context) {
  const { has } = context
  const cases = []
  const measure = async (title, metric, unit, entries) => {
    if (entries.length === 0) return
    const data = await alternate(entries, { ...context, title: `state, ${title}` })
    cases.push({ scenario: 'state', case: title, metric, unit, entries: data })
  }
  const reads = IN_NODE.filter(([, kind, , , needs]) => has[needs] && (kind === 'rival' || has.ringbell)).map(
    ([name, kind, ...how]) => ({ name, kind, window: (times) => inNode(context, how, times) }),
  )
  if (has.iceoryx2)
    reads.unshift(entry(context, 'iceoryx2 blackboard', 'rival', 'rival-iceoryx2', 'read', { rate: RATE, size: SIZE }))
  if (has.ringbellRust) reads.unshift(entry(context, 'Rust read', 'ringbell', 'ringbell-state', 'read', { rate: RATE }))
  await measure('64 B, while it is updated', 'nsPerRead', 'ns', reads)
  const counts = has.ringbellRust ? [0, 1, 8, 64] : []
  await measure(
    'updates of a writer',
    'perSecond',
    '/s',
    counts.map((readers) =>
      entry(context, `${readers} readers`, 'ringbell', 'ringbell-state', 'write', { readers, rate: RATE }),
    ),
  )
  for (const [label, cores] of [
    ['two cores', [0, 1]],
    ['one core', [0, 0]],
  ]) {
    const asleep = { size: SIZE, cores: cores.join(',') }
    const rust = [
      entry(context, 'state', 'ringbell', 'ringbell-state', 'change', asleep),
      entry(context, 'topic', 'ringbell', 'ringbell-topic', 'wake', asleep),
    ]
    await measure(`a change, Rust, ${label}`, 'p50', 'ns', has.ringbellRust ? rust : [])
    await measure(`a change, Node, ${label}`, 'p50', 'ns', [
      ...ringbellRoundTrips(context, SIZE, cores, ['sleep'], 'state', './ringbell-state.mjs'),
      ...ringbellRoundTrips(context, SIZE, cores, ['sleep'], 'topic'),
    ])
  }
  return cases
}

function inNode(context, [module, variant], { warm, ms }) {
  return cast(context, module, async (start) => {
    if (module !== './ringbell-state.mjs') await start('writer', 0, { rate: RATE })
    const reader = await start('reader', 1, { variant, rate: RATE, programs: context.programs })
    const { type: _, ...result } = await reader.ask({ type: 'read', warm, ms }, 'read')
    return result
  })
}
