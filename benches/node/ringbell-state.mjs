// node benches/node/ringbell-state.mjs <directory of programs> <dir of the bus> <ms> <rate>
// The time of `readInto` of 64 B in Node, while a writer in Rust updates the value at that rate. One line of JSON.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import path from 'node:path'
import { Bus } from '../../index.js'

const BLOCK = 1000
const [programs, dir, ms, rate] = process.argv.slice(2)
const words = ['writer-peer', '--dir', dir, '--rate', rate]
const writer = spawn(path.join(programs, 'ringbell-state'), words, { stdio: ['pipe', 'pipe', 'inherit'] })
await once(writer.stdout, 'data')
const bus = await Bus.open({ path: dir })
const reader = await bus.watchState('bench.state')
await reader.next()
const buffer = new Uint8Array(64)
let [reads, from, version] = [0, 0, 0]
let begun = performance.now()
let cpu = process.cpuUsage()
for (let warm = true, now = begun; warm || now - begun < Number(ms); now = performance.now()) {
  if (warm && now - begun > 200) [warm, reads, from, begun, cpu] = [false, 0, version, now, process.cpuUsage()]
  for (let i = 0; i < BLOCK; i++) {
    if (reader.readInto(buffer) !== 64 || reader.version < version) throw new Error('a value went back')
    version = reader.version
  }
  reads += BLOCK
}
const seconds = (performance.now() - begun) / 1000
const { user, system } = process.cpuUsage(cpu)
console.log(
  JSON.stringify({
    nsPerRead: (seconds * 1e9) / reads,
    // What a read takes of a processor: on a loaded machine this process has only a part of one.
    cpuNsPerRead: ((user + system) * 1000) / reads,
    updatesPerSecond: (version - from) / seconds,
  }),
)
writer.stdin.end()
await bus.close()
