/**
 * SIGKILL and SIGSTOP of either side while messages flow: survivors keep exact sequences, nothing stays behind.
 * `RINGBELL_TEST_KILLS` makes a hunt of it.
 */
import { once } from 'node:events'
import test from 'ava'
import type { AttachedPublisher } from 'ringbell'
import { isPayload, payload } from '../fixtures/payload.mjs'
import { PATIENCE_MS } from '../helpers/patience.js'
import { peer } from '../helpers/peer.js'
import { place, until } from '../helpers/place.js'

const KILLS = Number(process.env['RINGBELL_TEST_KILLS'] ?? 16)

test.serial('a killed publisher: its messages arrive, it ends, its files are gone', async (t) => {
  const at = place(t)
  t.timeout(PATIENCE_MS + KILLS * 5000)
  const bus = await at.bus()
  for (let kill = 0; kill < KILLS; kill++) {
    const acquire = kill % 2 === 0 ? 'auto' : 'handshake'
    const from = kill % 4 < 2 ? 'latest' : 'earliest'
    const subscriber = await bus.subscriber('ticks', { acquire, from })
    const child = peer(at, 'publish.mjs', ['ticks', '{"capacity":32768}'])
    const ended = new Promise<[AttachedPublisher, string]>((resolve) =>
      subscriber.on('ended', (...args) => resolve(args)),
    )
    // Some die before anybody could attach, most of them in full flow, after a random number of messages.
    const after = kill % 8 === 7 ? 0 : Math.floor(Math.random() * 5000)
    if (after === 0) {
      await child.tells('ready')
      child.kill()
    }
    let next: number | undefined
    let got = 0
    let gaps = 0
    const listening = subscriber.listen((message) => {
      const { sequence, data } = message
      next ??= sequence
      // History may be overwritten before it is read, and is counted then; what comes after the join may not.
      if (from === 'earliest' && sequence > next) gaps += sequence - next
      else if (sequence !== next) throw new Error(`kill ${kill}: ${sequence} came in place of ${next}`)
      if (!isPayload(data, sequence)) throw new Error(`kill ${kill}: ${sequence} is torn`)
      next = sequence + 1
      if (++got === after) child.kill()
    })
    t.is((await Promise.race([child.end, listening.finished.then(() => child.end)])).signal, 'SIGKILL')
    if (after > 0) {
      const [publisher, reason] = await Promise.race([ended, listening.finished.then(() => ended)])
      t.is(publisher.service.pid, child.pid)
      t.regex(reason, /died/)
      t.true(got >= after)
      const { missed } = subscriber.stats()
      t.true(from === 'latest' ? missed === 0 : missed >= gaps, `${missed} missed, ${gaps} seen to be`)
    }
    await until(() => at.files().length === 0)
    listening.stop()
    await listening.finished
    await subscriber.close()
  }
})

test.serial('killed subscribers: the others go on, and their slots are free again', async (t) => {
  const at = place(t)
  t.timeout(PATIENCE_MS + KILLS * 5000)
  const bus = await at.bus()
  // No slot to spare: each of the doomed needs one that another left.
  const publisher = await bus.publisher('ticks', { capacity: 32_768, maxSubscribers: 3, allowDirect: true })
  const survivor = peer(at, 'subscribe.mjs', ['ticks'])
  await survivor.tells('attached')
  let number = 0
  let over = false
  const flow = (async () => {
    while (!over) {
      if (publisher.send(payload(number))) number++
      else await publisher.ready()
      if (number % 512 === 0) await new Promise((done) => setImmediate(done))
    }
  })()
  for (let kill = 0; kill < KILLS; kill += 2) {
    const pair = [0, 1].map((one) => peer(at, 'subscribe.mjs', ['ticks', one === 0 ? '{}' : '{"acquire":"handshake"}']))
    await Promise.all(
      pair.map((doomed, one) =>
        kill % 6 === 4 ? doomed.tells('ready') : one === 0 ? doomed.tells('receiving') : doomed.tells('attached'),
      ),
    )
    for (const doomed of pair) doomed.kill()
    await Promise.all(pair.map(({ end }) => end))
    await until(() => publisher.subscribers === 1)
  }
  over = true
  await flow
  await publisher.close()
  await survivor.tells('ended')
  survivor.ask('close')
  const { received, wrong } = await survivor.tells('received')
  t.deepEqual({ received, wrong }, { received: number, wrong: undefined })
  t.like(await survivor.end, { code: 0, signal: null })
})

test.serial('a stopped subscriber holds up a block topic, and loses nothing', async (t) => {
  const at = place(t)
  const publisher = await (await at.bus()).publisher('ticks', { capacity: 32_768 })
  const child = peer(at, 'subscribe.mjs', ['ticks', '{}', 5000])
  await child.tells('attached')
  child.kill('SIGSTOP')
  let number = 0
  while (publisher.send(payload(number))) number++
  let ready = false
  const room = publisher.ready().then(() => (ready = true))
  // Far more sweeps than one; a living subscriber that only stands still is never thrown out.
  for (let sweep = 0; sweep < 5; sweep++) await new Promise((done) => setTimeout(done, 50))
  t.false(ready)
  t.is(publisher.subscribers, 1)
  child.kill('SIGCONT')
  await room
  for (; number < 5000; number++) while (!publisher.send(payload(number))) await publisher.ready()
  t.like(await child.tells('received'), { received: 5000, wrong: undefined, missed: 0 })
  t.is((await child.end).code, 0)
})

test.serial('a stopped subscriber is evicted, and the others lose nothing', async (t) => {
  const at = place(t)
  const publisher = await (await at.bus()).publisher('ticks', { capacity: 32_768, evictAfter: 100 })
  const stalled = peer(at, 'subscribe.mjs', ['ticks'])
  const lively = peer(at, 'subscribe.mjs', ['ticks', '{}', 5000])
  await Promise.all([stalled.tells('attached'), lively.tells('attached')])
  stalled.kill('SIGSTOP')
  for (let number = 0; number < 5000; number++) while (!publisher.send(payload(number))) await publisher.ready()
  t.like(await lively.tells('received'), { received: 5000, wrong: undefined })
  t.is(publisher.stats().evicted, 1)
  stalled.kill('SIGCONT')
  await stalled.tells('evicted')
  await stalled.tells('ended')
  stalled.ask('close')
  t.is((await stalled.tells('received'))['wrong'], undefined)
  t.is((await stalled.end).code, 0)
})

test.serial('a publisher killed while its subscriber is stopped loses nothing', async (t) => {
  const at = place(t)
  const child = peer(at, 'publish.mjs', ['ticks', '{"capacity":32768}'])
  const subscriber = await (await at.bus()).subscriber('ticks')
  await subscriber.attached()
  const first = await subscriber.receive()
  // It has filled the ring when it waits for us.
  await until(() => (subscriber.stats().sources[0]?.publisher.full ?? 0) > 0)
  child.kill()
  await child.end
  await until(() => at.files().length === 0)
  const messages = subscriber.stats().sources[0]?.publisher.messages as number
  const ended = once(subscriber, 'ended')
  let next = first.sequence + 1
  for (let message = subscriber.tryReceive(); message !== undefined; message = subscriber.tryReceive(), next++)
    t.true(message.sequence === next && isPayload(message.data, next))
  t.is(next, messages)
  await ended
})
