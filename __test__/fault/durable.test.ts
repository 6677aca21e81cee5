/**
 * SIGKILL of a durable subscriber at random moments: the subscriber that comes after it sees every message that it had not acknowledged,
 * and whatever comes again is marked. `RINGBELL_TEST_KILLS` makes a hunt of it.
 */
import test from 'ava'
import { payload } from '../fixtures/payload.mjs'
import { PATIENCE_MS } from '../helpers/patience.js'
import { peer } from '../helpers/peer.js'
import { place } from '../helpers/place.js'

const KILLS = Number(process.env['RINGBELL_TEST_KILLS'] ?? 16)

test.serial('a durable subscriber sees each message at least once, repeats marked', async (t) => {
  const at = place(t)
  t.timeout(PATIENCE_MS + KILLS * 5000)
  const bus = await at.bus()
  const publisher = await bus.publisher('ticks', { capacity: 32_768 })
  const name = { durable: 'billing' }
  const founder = await bus.subscriber('ticks', name)
  await founder.attached()
  await founder.close()

  let number = 0
  let over = false
  const flow = (async () => {
    const end = new AbortController()
    while (!over) {
      if (publisher.send(payload(number))) number++
      else await publisher.ready({ signal: AbortSignal.any([end.signal, AbortSignal.timeout(20)]) }).catch(() => {})
      if (number % 64 === 0) await new Promise((done) => setImmediate(done))
    }
  })()

  const seen = new Set<number>()
  let again = 0
  const see = (sequence: number, marked: boolean, kill: number): void => {
    if (!seen.has(sequence)) seen.add(sequence)
    else if (marked) again++
    else throw new Error(`kill ${kill}: ${sequence} came again, and was not marked`)
  }
  for (let kill = 0; kill < KILLS; kill++) {
    const options = {
      ...name,
      ack: kill % 2 === 0 ? 'batch' : 'deferred',
      acquire: ['auto', 'handshake', 'stream'][kill % 3],
    }
    const child = peer(at, 'durable.mjs', ['ticks', JSON.stringify(options)])
    // Some die before they have seen anything, most of them in full flow.
    const after = kill % 8 === 7 ? 0 : Math.floor(Math.random() * 3000)
    let lines = 0
    child.process.stdout.on('data', (some: Buffer) => {
      lines += some.toString().split('\n').length - 1
      if (lines > after) child.kill()
    })
    if (after === 0) child.kill()
    const { signal, stdout } = await child.end
    t.is(signal, 'SIGKILL')
    const text = stdout.toString()
    let next: number | undefined
    for (const line of text.split('\n').slice(0, -1)) {
      const [sequence, marked] = line.split(' ')
      next ??= Number(sequence)
      if (Number(sequence) !== next++) throw new Error(`kill ${kill}: ${sequence} instead of ${next - 1}`)
      see(Number(sequence), marked === 'true', kill)
    }
  }
  over = true
  await flow
  const last = await bus.subscriber('ticks', { ...name, ack: 'deferred' })
  t.is((await last.attached())[0]?.position, 'resumed')
  for (let message; (message = last.tryReceive()) !== undefined;) see(message.sequence, message.redelivered, KILLS)
  t.is(seen.size, number)
  t.true(again > 0 || KILLS < 2)
  t.like(publisher.stats(), { evicted: 0, messages: number })
  t.is(last.stats().missed, 0)
})
