/** Codecs end to end, on every rung: values, a codec of one's own, and publishers with the wrong one. */
import test from 'ava'
import { type Codec, RingbellError, type Service } from 'ringbell'
import { codeOf, place, until } from '../helpers/place.js'
import { lifetimes, rungs } from '../helpers/rungs.js'

const upper: Codec<string> = {
  id: 'upper',
  encode: (text) => Buffer.from(text.toUpperCase()),
  decode: (bytes) => Buffer.from(bytes).toString().toLowerCase(),
}

for (const rung of rungs) {
  test(`${rung}: json`, async (t) => {
    const at = place(t)
    const bus = await at.bus()
    const publisher = await bus.publisher<{ n: number; text: string }>('json', { codec: 'json' })
    const subscriber = await bus.subscriber<{ n: number; text: string }>('json', { codec: 'json', acquire: rung })
    const [attached] = await subscriber.attached()
    t.is(attached?.service.codec, 'json')
    t.true(publisher.send({ n: 1, text: 'ö€𝄞' }))
    t.true(publisher.send({ n: 2, text: 'x'.repeat(100_000) }))
    const message = await subscriber.receive()
    t.deepEqual(message.value, { n: 1, text: 'ö€𝄞' })
    t.is(message.value, message.value)
    t.is((await subscriber.receive()).value.text.length, 100_000)
    t.is(await codeOf(() => publisher.send(undefined as never)), 'ERR_RINGBELL_CODEC')
    publisher.send({ n: 3, text: '' })
    const lifetime = lifetimes(rung).at(-1)
    const batch = await until(() => subscriber.tryReceiveBatch({ lifetime }))
    t.deepEqual(batch.value(0), { n: 3, text: '' })
    batch.release()
  })

  test(`${rung}: structured`, async (t) => {
    const at = place(t)
    const bus = await at.bus()
    const publisher = await bus.publisher('things', { codec: 'structured' })
    const subscriber = await bus.subscriber('things', { codec: 'structured', acquire: rung })
    await subscriber.attached()
    const value = { map: new Map([[1n, new Date(5)]]), set: new Set([new Uint8Array([1, 2])]) }
    t.true(publisher.send(value))
    t.deepEqual((await subscriber.receive()).value, value)
  })

  test(`${rung}: a codec of one's own, and bytes that it cannot read`, async (t) => {
    const at = place(t)
    const bus = await at.bus()
    const publisher = await bus.publisher('words', { codec: upper })
    const subscriber = await bus.subscriber('words', { codec: upper, acquire: rung })
    const raw = await bus.subscriber('words', { acquire: rung })
    const strict = await bus.subscriber('words', {
      codec: {
        id: 'upper',
        encode: (text: string) => Buffer.from(text),
        decode: () => {
          throw new TypeError('no')
        },
      },
      acquire: rung,
    })
    for (const one of [subscriber, raw, strict]) await one.attached()
    publisher.send('Hello')
    t.is((await subscriber.receive()).value, 'hello')
    t.is(Buffer.from((await raw.receive()).data).toString(), 'HELLO')
    const message = await strict.receive()
    const error = t.throws(() => message.value, { instanceOf: RingbellError })
    t.is(error?.code, 'ERR_RINGBELL_CODEC')
    t.true(error?.cause instanceof TypeError)
  })

  test(`${rung}: a publisher with another codec is not joined`, async (t) => {
    const at = place(t)
    const bus = await at.bus()
    const wrong = await bus.publisher('mixed', { codec: 'json' })
    const subscriber = await bus.subscriber('mixed', { codec: 'structured', acquire: rung })
    const failed = new Promise<[error: RingbellError, service?: Service]>((resolve) =>
      subscriber.on('failed', (...details) => resolve(details)),
    )
    const right = await bus.publisher('mixed', { codec: 'structured' })
    const attached = await subscriber.attached()
    t.deepEqual(
      attached.map(({ service }) => service.id),
      [right.service.id],
    )
    const [error, service] = await failed
    t.is(service?.id, wrong.service.id)
    t.true(error instanceof RingbellError && error.code.startsWith('ERR_RINGBELL_'), error.code)
    t.regex(error.message, /json/)
    t.regex(error.message, /structured/)
    t.true(wrong.send({ a: 1 }))
    right.send({ b: 2 })
    t.deepEqual((await subscriber.receive()).value, { b: 2 })
    t.is(wrong.subscribers, 0)
  })
}
