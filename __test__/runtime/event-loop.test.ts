/** What ringbell does to Node's event loop: others get their turn, and only who waits keeps the process alive. */
import test from 'ava'
import { peer } from '../helpers/peer.js'
import { place } from '../helpers/place.js'

for (const how of ['messages', 'listen', 'receive', 'owned', 'borrowed', 'lease', 'ready']) {
  test(`an endless stream lets timers, immediates and sockets run: ${how}`, async (t) => {
    const child = peer(place(t), 'loop.mjs', [how])
    t.true(((await child.tells('done'))['messages'] as number) > 100)
    t.is((await child.end).code, 0, child.stderr)
  })
}

test('a sleeping subscriber is woken, in any order of wakes', async (t) => {
  const bus = await place(t).bus()
  const topics = await Promise.all(
    ['one', 'other', 'third'].map(async (name) => {
      const publisher = await bus.publisher(name)
      const subscriber = await bus.subscriber(name, { wait: 'sleep' })
      await subscriber.attached()
      return { publisher, subscriber }
    }),
  )
  // Runs of every length up to more than the poller guesses in a row that it is the same one again.
  for (let run = 1; run <= 12; run++) {
    for (const { publisher, subscriber } of topics) {
      for (let number = 0; number < run; number++) {
        const message = subscriber.receive()
        publisher.send(Buffer.from([run, number]))
        t.deepEqual([...(await message).data], [run, number])
      }
    }
  }
})

/** Each opens something and waits in some way; then whether the process is still alive is asked. */
const WAITS: Record<string, boolean> = {
  nothing: false,
  idle: false,
  receive: true,
  'receive-unref': false,
  'receive-spin-unref': false,
  messages: true,
  'messages-unref': false,
  listen: true,
  'listen-unref': false,
  'unref-while-waiting': false,
  'ref-again': true,
  ready: true,
  'ready-unref': false,
  watch: true,
  'watch-left': false,
  'claim-held': false,
  'claim-waiting': true,
  'lock-held': false,
  'lock-waiting': true,
  'lock-given-up': false,
  'flag-waiting': true,
  'wait-for': true,
  attached: true,
  'attached-unref': false,
  'publisher-attached': true,
  'publisher-attached-unref': false,
  'publisher-listener': false,
  'after-receive': false,
}

for (const [how, alive] of Object.entries(WAITS)) {
  test(`${how} ${alive ? 'keeps' : 'does not keep'} the process alive`, async (t) => {
    const at = place(t)
    const child = peer(at, 'alive.mjs', [how])
    await child.tells('set')
    if (!alive) {
      t.like(await child.end, { code: 0, signal: null }, child.stderr)
      t.deepEqual(at.files(), [])
      return
    }
    // A process that nothing keeps alive says so before it goes.
    child.process.send({ what: 'pulse' })
    await child.tells('pulse')
    t.true(child.running)
    child.kill()
    t.is((await child.end).signal, 'SIGKILL')
    await (await at.bus()).gc()
  })
}
