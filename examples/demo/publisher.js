// @ts-check
/**
 * The publisher: reads the files of /proc round and round and publishes every reading. First a round a millisecond, then,
 * when told so, as fast as it can; on a `block` topic that is as fast as the slowest subscriber reads.
 */
import { setImmediate, setTimeout } from 'node:timers/promises'
import { Bus } from 'ringbell'
import { busPath, onOrders, report } from './link.js'
import { FILES, Reader } from './readings.js'

const SUBSCRIBERS = 3
const REPORT_MS = 200

const bus = await Bus.open({ path: busPath })
const publisher = await bus.publisher('machine', { capacity: 16 << 20, overflow: 'block' })
const reader = new Reader()
let fast = false
let over = false
onOrders({ fast: () => (fast = true), close: () => (over = true) })

// A subscriber starts at "now". Everybody is to have every message from number 0 on, so wait until all are there.
while (publisher.stats().subscribers.filter(({ state }) => state === 'active').length < SUBSCRIBERS) await setTimeout(2)

const reports = setInterval(() => {
  const { messages, bytes } = publisher.stats()
  report({ messages, bytes })
}, REPORT_MS)
while (!over) {
  for (let kind = 0; kind < FILES.length; kind++) {
    const reading = reader.read(kind)
    while (!publisher.send(reading)) await publisher.ready()
  }
  await (fast ? setImmediate() : setTimeout(1))
}
clearInterval(reports)
report({ committed: publisher.stats().messages })
reader.close()
await bus.close()
process.disconnect()
