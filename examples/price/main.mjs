/**
 * A price service with three instances, and clients that ask all the time, while its primary is killed at random. At the end it
 * says how many calls were made, what became of them, and how long the service was away after each kill.
 * `node examples/price/main.mjs [KILLS]`
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { Bus } from 'ringbell'
import { ServiceGroup } from 'ringbell/supervise'

const KILLS = Number(process.argv[2] ?? 10)
const CLIENTS = 4

const bus = await Bus.open()
const group = new ServiceGroup(bus, {
  service: 'example.price',
  command: process.execPath,
  args: [fileURLToPath(new URL('worker.mjs', import.meta.url))],
  replicas: 3,
  minUptime: 0,
  tied: 'process',
})
group.on('failed', (error) => console.error(error.message))
await group.start()

/** Epoch → the process that answered in it. */
const answers = new Map()
const failures = new Map()
const waits = []
let calls = 0
let killed = { at: 0, pid: 0 }
let over = false

async function ask() {
  const client = await bus.connect('example.price', { codec: 'json', route: 'primary', timeout: 30_000 })
  while (!over) {
    calls++
    try {
      const { epoch, pid } = await client.call({ item: 'tea' }, { idempotent: true })
      if ((answers.get(epoch) ?? pid) !== pid) console.error(`two processes have answered in epoch ${epoch}`)
      answers.set(epoch, pid)
      if (killed.pid !== 0 && pid !== killed.pid) {
        waits.push(performance.now() - killed.at)
        killed = { at: 0, pid: 0 }
      }
    } catch (error) {
      failures.set(error.code, (failures.get(error.code) ?? 0) + 1)
    }
  }
  await client.close()
}

const clients = Array.from({ length: CLIENTS }, ask)
const ready = () => group.primary !== undefined && group.instances.every(({ role }) => role !== undefined)
for (let kills = 0; kills < KILLS; kills++) {
  // The next kill comes when the service is whole again: with a primary that the clients have seen, and two standbys.
  while (!ready() || killed.pid !== 0 || answers.get(group.primary.epoch) === undefined) await sleep(1)
  await sleep(Math.random() * 50)
  const { pid } = group.primary ?? {}
  if (pid === undefined) continue
  killed = { at: performance.now(), pid }
  process.kill(pid, 'SIGKILL')
}
while (killed.pid !== 0) await sleep(1)
over = true
await Promise.all(clients)
await group.stop()
await bus.close()

waits.sort((a, b) => a - b)
const at = (share) => `${(waits[Math.min(waits.length - 1, Math.floor(share * waits.length))] ?? 0).toFixed(1)} ms`
console.log(`${calls} calls, ${waits.length} kills of the primary, ${answers.size} primaries have answered`)
console.log(`from SIGKILL to the next answer: median ${at(0.5)}, 99 of 100 within ${at(0.99)}`)
console.log(`failed calls: ${failures.size === 0 ? 'none' : JSON.stringify(Object.fromEntries(failures))}`)
