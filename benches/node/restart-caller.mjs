// Makes 10,000 calls a second to the primary of `bench`, over four clients, and never one twice. A line of stdin names what follows:
// `quiet`, `restart`, or `end`, after which it tells how long calls took in either time, and which have failed.

import { createInterface } from 'node:readline'
import { Bus } from '../../index.js'

const CLIENTS = 4
const PER_MILLISECOND = 10

const bus = await Bus.open()
const clients = []
for (let made = 0; made < CLIENTS; made++) clients.push(await bus.connect('bench', { codec: 'json', route: 'primary' }))
await Promise.all(clients.map((client) => client.call({ number: 0 })))
console.log(JSON.stringify({ connected: process.pid }))

const times = { warm: [], quiet: [], restart: [] }
const codes = {}
let failures = 0
let phase = 'warm'

async function call(client, number) {
  const kept = times[phase]
  const begun = performance.now()
  try {
    await client.call({ number })
    kept.push((performance.now() - begun) * 1e6)
  } catch ({ code }) {
    failures++
    codes[code] = (codes[code] ?? 0) + 1
  }
}

let made = 0
const start = performance.now()
/** What was due while the event loop was late is made up for at once. */
const timer = setInterval(() => {
  for (const due = (performance.now() - start) * PER_MILLISECOND; made < due; made++)
    void call(clients[made % CLIENTS], made)
}, 1)

function figures(samples) {
  const sorted = Float64Array.from(samples).sort()
  const at = (share) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0
  return { p50: at(0.5), p99: at(0.99), max: at(1), samples: sorted.length }
}

for await (const line of createInterface({ input: process.stdin })) {
  if (line !== 'end') {
    phase = line
    continue
  }
  clearInterval(timer)
  // Those that wait for an answer count, too.
  await Promise.all(clients.map((client) => client.close({ grace: 10_000 })))
  const { quiet, restart } = times
  console.log(JSON.stringify({ quiet: figures(quiet), restart: figures(restart), failures, codes }))
  break
}
process.exit()
