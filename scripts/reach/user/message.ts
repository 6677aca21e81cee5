// One typed message from a publisher to a subscriber. It runs by tsx and by Node's own stripping of types.
import { Bus, type Message } from 'ringbell'

interface Reading {
  celsius: number
}

const bus = await Bus.open()
const publisher = await bus.publisher<Reading>('readings', { codec: 'json' })
const subscriber = await bus.subscriber<Reading>('readings', { codec: 'json' })
await subscriber.attached()
publisher.send({ celsius: 18 })
const message: Message<Reading> = await subscriber.receive()
await bus.close()
if (message.value.celsius !== 18) throw new Error(`received ${message.value.celsius}`)
console.log('1 passed, 0 failed')
