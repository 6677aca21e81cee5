// A reply of 16 MiB, Node to Node: into memory that the call makes, and into a buffer that the caller gives. Beside
// the rivals, which know only the first, and a copy within one process: into new pages, and between the same two
// buffers again and again.

import { calls, copies, ringbellCalls } from '../harness/rivals.mjs'
import { alternate } from '../harness/rounds.mjs'
import { entry } from '../harness/rust.mjs'

const REPLY = 16 << 20
const WAYS = { fresh: {}, into: { into: true } }

export async function run(context) {
  const options = { size: 64, reply: REPLY, capacity: 1 << 20 }
  const entries = Object.entries(WAYS).flatMap(([way, more]) =>
    ringbellCalls(context, ['adaptive'], { ...options, ...more, name: `ringbell ${way}` }),
  )
  entries.push(...calls(context, options).filter(({ name }) => name !== 'zeromq dealer/router'))
  for (const [way, more] of Object.entries(WAYS)) {
    entries.push(copies(context, { ...options, ...more, name: `copy in Node, ${way}` }))
  }
  if (context.has.floors) {
    for (const way of ['fresh', 'hot']) {
      entries.push(entry(context, `memcpy, ${way}`, 'floor', 'floor', 'memcpy', { size: REPLY, into: way }))
    }
  }
  return [
    {
      scenario: 'large-reply',
      case: '16 MiB',
      metric: 'perSecond',
      bytes: REPLY,
      entries: await alternate(entries, { ...context, title: 'large reply' }),
    },
  ]
}
