/**
 * Values instead of bytes. The codec's id stands in the publisher's record, so a subscriber that expects another codec
 * does not attach: it gets a 'failed' event instead of nonsense. Run: node examples/json.mjs
 */
import { Bus } from 'ringbell'

const bus = await Bus.open()
const readings = await bus.publisher('example.readings', { codec: 'json' })
const subscriber = await bus.subscriber('example.readings', { codec: 'json' })
await subscriber.attached()

readings.send({ sensor: 'cpu', celsius: 61.5 })
readings.send({ sensor: 'disk', celsius: 38 })
for (let n = 0; n < 2; n++) {
  const { value, sequence } = await subscriber.receive()
  console.log(`reading ${sequence}: ${value.sensor} has ${value.celsius} °C`)
}

const stranger = await bus.subscriber('example.readings', { codec: 'structured' })
stranger.once('failed', (error) => {
  console.log(`a subscriber that expects another codec: ${error.code}`)
  void stranger.close()
})
for await (const message of stranger) console.log('never', message)

await bus.close()
