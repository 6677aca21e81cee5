/** One instance of the price service. The primary answers; a standby takes over when it ends, however it ends. */
import { Bus } from 'ringbell'

const bus = await Bus.open()
const member = await bus.join('example.price')
const prices = { tea: 310, coffee: 420 }

await bus.serve('example.price', { codec: 'json', member }, ({ item }) => ({
  item,
  cents: prices[item],
  epoch: member.epoch,
  pid: process.pid,
}))
