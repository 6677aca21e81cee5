import { Bus } from 'ringbell'

const bus = await Bus.open()
const ticks = await bus.subscriber('ticks')
for await (const message of ticks) {
  console.log(`${Buffer.from(message.data)} (message ${message.sequence} of ${message.publisher.slice(0, 8)})`)
}
