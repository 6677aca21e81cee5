/**
 * A publisher that is faster than its subscriber, on a small ring. `send` says false when there is no room, `ready` waits
 * for some: the publisher runs at the subscriber's pace, and nothing is lost. Run: node examples/back-pressure.mjs
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { Bus } from 'ringbell'

const MESSAGES = 1000

const bus = await Bus.open()
const publisher = await bus.publisher('example.bulk', { capacity: 64 * 1024, overflow: 'block' })
const subscriber = await bus.subscriber('example.bulk')
await subscriber.attached()

async function publish() {
  const message = Buffer.alloc(1000)
  let waits = 0
  for (let n = 0; n < MESSAGES; n++) {
    message.writeUInt32LE(n)
    while (!publisher.send(message)) {
      waits++
      await publisher.ready()
    }
  }
  console.log(`publisher:  sent ${MESSAGES} messages, waited ${waits} times for room`)
}

async function receiveSlowly() {
  let received = 0
  for await (const message of subscriber) {
    if (Buffer.from(message.data).readUInt32LE() !== message.sequence) throw new Error('out of order')
    if (++received === MESSAGES) break
    if (received % 100 === 0) await sleep(50)
  }
  console.log(`subscriber: received ${received} messages, missed ${subscriber.stats().missed}`)
}

await Promise.all([publish(), receiveSlowly()])
await bus.close()
