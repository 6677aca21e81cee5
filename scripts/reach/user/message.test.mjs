// One message, in a test of Vitest or of Jest in its ESM mode. Both have `test` and `expect` as globals here.
import { Bus } from 'ringbell'

test('a message arrives', async () => {
  const bus = await Bus.open()
  try {
    const publisher = await bus.publisher('tests', { codec: 'json' })
    const subscriber = await bus.subscriber('tests', { codec: 'json' })
    await subscriber.attached()
    publisher.send({ celsius: 18 })
    expect((await subscriber.receive()).value).toEqual({ celsius: 18 })
  } finally {
    await bus.close()
  }
})
