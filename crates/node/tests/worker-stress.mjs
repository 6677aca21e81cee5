// Workers that are terminated in full traffic. Run by hand, with the path of a built binding:
//   node crates/node/tests/worker-stress.mjs <binding.node> [cycles] [main]
// Each worker opens a bus, publishes to itself through a poller, drains and leases, and is ended at a random
// moment, or ends itself by process.exit. `main`: the main thread loads the binding too. Passes when every worker
// came up, the exit codes are right, and neither descriptors nor records nor mappings are left.
import { mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { Worker, isMainThread, parentPort, workerData } from 'node:worker_threads'

const require = createRequire(import.meta.url)
const CAPACITY = 1 << 20
const WARM_UP = 10
const WATCHDOG_MS = 20_000

if (isMainThread) await main()
else work()

async function main() {
  const [, , path, count = '100', load] = process.argv
  const binding = resolve(path)
  if (load === 'main') require(binding)
  const directory = mkdtempSync(join(tmpdir(), 'ringbell-stress-'))
  const failures = []
  let before
  for (let cycle = 0; cycle < Number(count) + WARM_UP; cycle++) {
    if (cycle === WARM_UP) before = left()
    const exits = cycle % 4 === 3
    const watchdog = setTimeout(() => {
      console.log([...failures, `cycle ${cycle}: hangs`].join('\n'))
      process.exit(1)
    }, WATCHDOG_MS)
    const worker = new Worker(new URL(import.meta.url), {
      workerData: { binding, directory, exits, topic: `stress${cycle}` },
    })
    const ended = new Promise((settle) => worker.once('exit', settle))
    await new Promise((settle, reject) => {
      worker.once('message', settle)
      worker.once('error', reject)
    })
    await new Promise((settle) => setTimeout(settle, Math.random() * 10))
    if (!exits) void worker.terminate()
    const code = await ended
    clearTimeout(watchdog)
    if (code !== (exits ? 7 : 1)) failures.push(`cycle ${cycle}: exit code ${code}`)
    const records = readdirSync(directory)
    if (records.length > 0) failures.push(`cycle ${cycle}: left ${records.join(' ')}`)
  }
  const after = left()
  if (after.descriptors > before.descriptors)
    failures.push(`descriptors: ${before.descriptors} before, ${after.descriptors} after`)
  if (after.segments > before.segments)
    failures.push(`mapped segments: ${before.segments} before, ${after.segments} after`)
  rmSync(directory, { recursive: true })
  console.log(failures.length === 0 ? `ok: ${count} workers` : failures.join('\n'))
  process.exitCode = failures.length === 0 ? 0 : 1
}

function left() {
  const maps = readFileSync('/proc/self/maps', 'utf8').split('\n')
  return {
    descriptors: readdirSync('/proc/self/fd').length,
    segments: maps.filter((line) => line.includes('memfd:')).length,
  }
}

function work() {
  const { binding, directory, exits, topic } = workerData
  const { NativeBus, NativePoller } = require(binding)
  const bus = NativeBus.open(JSON.stringify({ path: directory }))
  const publisher = bus.publisher(topic, JSON.stringify({ capacity: CAPACITY }))
  const subscriber = bus.subscriber(topic, '{}')
  const watch = bus.watch('*')
  const [out, into] = [publisher.hot(), subscriber.hot()]
  const [payload, ready, { scratch }] = [new Uint8Array(1000), new Uint32Array(16), subscriber]
  publisher.memory(0)
  let received = 0
  const poller = new NativePoller(turn, ready)
  for (const endpoint of [publisher, subscriber, watch]) poller.add(endpoint)
  poller.ref()
  turn()

  const views = []
  function turn() {
    watch.take()
    for (let round = 0; round < 50; round++) {
      const count = round % 2 === 0 ? into.drain(new Uint8Array(1 << 16), 0) : into.lease()
      if (count === -2) subscriber.notices()
      if (count > 0 && round % 2 === 1) {
        views.push(new Uint8Array(subscriber.sourceMemory(scratch[0])))
        if (views.length > 8) views.length = 0
        into.release(scratch[0])
      }
      if (count > 0) received += count
      if (received === 0) continue
      for (let n = 0; n < 20; n++) out.send(payload)
    }
    if (received > 1000 && received < 3000) parentPort.postMessage('up')
    if (exits && received > 20_000) process.exit(7)
    if (received === 0) out.send(payload)
    if (into.arm()) return
    setImmediate(turn)
  }
}
