/** Headers on every rung: of messages in every lifetime and size, of calls and their replies, of connections, and of jobs. */
import { inspect } from 'node:util'
import test from 'ava'
import type { Envelope, Message, MessageHeaders, RingbellError } from 'ringbell'
import { blob, isBlob } from '../fixtures/blob.mjs'
import { codeOf, place, until } from '../helpers/place.js'
import { lifetimes, rungs } from '../helpers/rungs.js'

const CAPACITY = 16_384
/** Some go at once, one only without its headers, others in pieces. */
const LENGTHS = [0, 5, 300, 8100, 8160, 100_000]
const HEADERS = { traceparent: '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01', text: 'ö€' }

/** Received headers have no prototype. */
const plain = (headers: MessageHeaders): object => ({ ...headers })

for (const rung of rungs) {
  test(`${rung}: messages bring their headers, and those without have none`, async (t) => {
    const bus = await place(t).bus()
    const publisher = await bus.publisher('blobs', { capacity: CAPACITY })
    const subscriber = await bus.subscriber('blobs', { acquire: rung })
    await subscriber.attached()
    const kept: Message[] = []
    const reading = (async () => {
      for await (const message of subscriber) if (kept.push(message) === 2 * LENGTHS.length) break
    })()
    for (const [number, length] of LENGTHS.entries()) {
      const data = blob(number, length)
      await publisher.write(data, { headers: { ...HEADERS, number: String(number) } })
      while (length < 8000 && !publisher.send(data)) await publisher.ready()
      if (length >= 8000) await publisher.write(data)
    }
    await reading
    for (const [at, message] of kept.entries()) {
      const number = at >>> 1
      t.true(isBlob(message.data, number, LENGTHS[number] as number), `${at}`)
      const expected = at % 2 === 0 ? { ...HEADERS, number: String(number) } : {}
      t.deepEqual(plain(message.headers), expected)
      t.is(message.headers, message.headers, 'decoded once')
      t.deepEqual('headers' in message.toJSON(), at % 2 === 0)
    }
    t.regex(inspect(kept[2]), /traceparent/)
    t.notRegex(inspect(kept[3]), /headers/)
  })

  for (const lifetime of lifetimes(rung)) {
    test(`${rung}: ${lifetime} batches have the headers of each message`, async (t) => {
      const bus = await place(t).bus()
      const publisher = await bus.publisher('blobs', { capacity: CAPACITY })
      const subscriber = await bus.subscriber('blobs', { acquire: rung })
      await subscriber.attached()
      const written = (async () => {
        for (let number = 0; number < 200; number++) {
          const headers = number % 3 === 0 ? { number: String(number) } : undefined
          while (!publisher.send(blob(number, number), { headers })) await publisher.ready()
        }
        await publisher.write(blob(200, 50_000), { headers: { number: '200' } })
      })()
      let number = 0
      for await (const batch of subscriber.batches({ lifetime })) {
        for (let i = 0; i < batch.length; i++, number++) {
          t.true(isBlob(batch.data(i).slice(), number, batch.byteLength(i)))
          t.deepEqual(plain(batch.headers(i)), number % 3 === 0 || number === 200 ? { number: String(number) } : {})
        }
        if (number > 200) break
      }
      await written
    })
  }
}

for (const rung of rungs.filter((one) => one !== 'direct')) {
  test(`${rung}: calls bring headers to the handler, and replies bring others back`, async (t) => {
    const bus = await place(t).bus()
    await bus.serve('echo', { capacity: CAPACITY }, async (request, context) => {
      const { headers } = context
      t.is(headers, context.headers)
      if (headers['wait'] !== undefined) await new Promise((done) => setImmediate(done))
      if (headers['answer'] !== undefined)
        context.replyHeaders = { answered: `${headers['answer']} ${context.headers['text']}` }
      if (headers['fail'] !== undefined) throw new RangeError('as asked')
      return headers['nothing'] === undefined ? request : undefined
    })
    const client = await bus.connect('echo', { acquire: rung })
    for (const [number, length] of LENGTHS.entries()) {
      const data = blob(number, length)
      const headers = { ...HEADERS, answer: String(number) }
      const { value, headers: replied } = await client.exchange(data, { headers: { ...headers, wait: '' } })
      t.true(isBlob(value, number, length))
      t.deepEqual(plain(replied), { answered: `${number} ${HEADERS.text}` })
      t.deepEqual(plain((await client.exchange(data)).headers), {})
      t.true(isBlob(await client.call(data, { headers }), number, length))
      const into = new Uint8Array(100_000)
      const filled = await client.call(data, { headers, into })
      t.is(filled.buffer, into.buffer)
      t.true(isBlob(filled, number, length))
    }
    const nothing = await client.exchange(Uint8Array.of(1), { headers: { nothing: '', answer: 'no', text: 'value' } })
    t.deepEqual([nothing.value.byteLength, plain(nothing.headers)], [0, { answered: 'no value' }])
    await t.throwsAsync(client.call(Uint8Array.of(1), { headers: { fail: '' } }), { message: 'as asked' })
    t.is(await codeOf(() => client.call(Uint8Array.of(1), { headers: { Wrong: '' } })), 'ERR_RINGBELL_INVALID_OPTION')
    t.is(client.stats().inFlight, 0)
  })

  test(`${rung}: a stream is asked for with headers`, async (t) => {
    const bus = await place(t).bus()
    await bus.serve<string, string>('words', { codec: 'json' }, async function* (request, { headers }) {
      yield request
      yield headers['more'] ?? ''
    })
    const client = await bus.connect<string, string>('words', { codec: 'json', acquire: rung })
    const got: string[] = []
    for await (const word of client.stream('one', { headers: { more: 'two' } })) got.push(word)
    t.deepEqual(got, ['one', 'two'])
    for await (const word of client.stream('one', { headers: { more: 'two' } })) if (word === 'one') break
    t.is(await client.call('one').catch((error: RingbellError) => error.code), 'ERR_RINGBELL_STREAM')
  })

  test(`${rung}: messages of a connection have headers, and a window that counts them`, async (t) => {
    const bus = await place(t).bus()
    const server = await bus.serve('talk', { capacity: CAPACITY })
    const client = await bus.connect('talk', { acquire: rung })
    const connection = await client.connected()
    const [other] = await until(() => (server.connections.length > 0 ? server.connections : undefined))
    const got: Envelope<Uint8Array>[] = []
    // More than a window of them, so credit must come back for what they cost.
    const rounds = 8
    const reading = (async () => {
      for await (const one of other!.envelopes()) if (got.push(one) === 2 * rounds * LENGTHS.length) break
    })()
    for (let round = 0; round < rounds; round++) {
      for (const [number, length] of LENGTHS.entries()) {
        await connection.write(blob(number, length), { headers: { ...HEADERS, number: String(number) } })
        const last = blob(number, Math.min(length, 300))
        while (!connection.send(last, { headers: { last: 'x'.repeat(4000) } })) await connection.ready()
      }
    }
    await reading
    for (const [at, { value, headers }] of got.entries()) {
      const number = (at >>> 1) % LENGTHS.length
      const length = LENGTHS[number] as number
      t.true(isBlob(value, number, at % 2 === 0 ? length : Math.min(length, 300)))
      t.deepEqual(plain(headers), at % 2 === 0 ? { ...HEADERS, number: String(number) } : { last: 'x'.repeat(4000) })
    }
    other!.send(Uint8Array.of(7), { headers: { back: 'yes' } })
    t.deepEqual([...(await connection.receive())], [7], 'as a value, without them')
  })

  test(`${rung}: jobs keep their headers, also as dead letters`, async (t) => {
    const bus = await place(t).bus()
    const queue = await bus.queue<string>('jobs', { codec: 'json', attempts: 2 })
    const seen: [job: string, redelivered: boolean, headers: object][] = []
    await bus.worker<string>('jobs', { codec: 'json', acquire: rung }, (job, { headers, redelivered }) => {
      seen.push([job, redelivered, plain(headers)])
      if (headers['fail'] !== undefined) throw new RangeError('as asked')
      return headers['result'] ?? ''
    })
    t.is(await queue.run('run', { headers: { result: 'from a header' } }), 'from a header')
    t.true(queue.push('plain'))
    t.true(queue.push('fails', { headers: { fail: 'yes' } }))
    await queue.drained()
    const [letter] = queue.deadLetters
    t.like(letter, { job: 'fails', attempts: 2 })
    t.deepEqual(plain(letter!.headers), { fail: 'yes' })
    t.true(queue.retry(letter!, { headers: { fixed: 'yes' } }))
    await queue.drained()
    t.deepEqual(seen, [
      ['run', false, { result: 'from a header' }],
      ['plain', false, {}],
      ['fails', false, { fail: 'yes' }],
      ['fails', true, { fail: 'yes' }],
      ['fails', false, { fixed: 'yes' }],
    ])
    t.true(queue.push('again', { headers: { fail: 'again' } }))
    await queue.drained()
    const [again] = queue.deadLetters
    t.true(queue.retry(again!))
    await queue.drained()
    t.deepEqual(seen.at(-1), ['again', true, { fail: 'again' }])
  })
}

test('wrong headers and options are refused, and nothing is sent', async (t) => {
  const bus = await place(t).bus()
  const publisher = await bus.publisher('strict')
  const wrong = { headers: { Wrong: 'x' } }
  t.is(await codeOf(() => publisher.send(Uint8Array.of(1), wrong)), 'ERR_RINGBELL_INVALID_OPTION')
  t.is(await codeOf(() => publisher.write(Uint8Array.of(1), wrong)), 'ERR_RINGBELL_INVALID_OPTION')
  t.is(await codeOf(() => publisher.send(Uint8Array.of(1), { header: {} } as never)), 'ERR_RINGBELL_INVALID_OPTION')
  t.is(await codeOf(() => publisher.send(Uint8Array.of(1), 'x' as never)), 'ERR_RINGBELL_INVALID_OPTION')
  t.is(await codeOf(() => publisher.send('x' as never, { headers: { a: '1' } })), 'ERR_RINGBELL_CODEC')
  const { maxMessage } = publisher
  t.is(
    await codeOf(() => publisher.send(new Uint8Array(maxMessage - 5), { headers: { a: '1' } })),
    'ERR_RINGBELL_MESSAGE_TOO_LARGE',
  )
  t.is(publisher.stats().messages, 0)
  t.true(publisher.send(new Uint8Array(maxMessage - 6), { headers: { a: '1' } }))
  t.true(publisher.send(new Uint8Array(1), { headers: undefined }))
})
