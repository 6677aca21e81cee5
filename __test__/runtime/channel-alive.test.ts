/** What of channels keeps a process alive: who waits, and nobody else. */
import test from 'ava'
import { peer } from '../helpers/peer.js'
import { place } from '../helpers/place.js'

const ALIVE = [
  'serve',
  'call',
  'call-spin',
  'call-nobody',
  'connected',
  'stream',
  'receive',
  'receive-fds',
  'queue-pushed',
  'worker',
]
const GONE = [
  'serve-unref',
  'client-idle',
  'call-unref',
  'call-timeout-unref',
  'connect-idle',
  'queue-idle',
  'worker-unref',
]

for (const how of ALIVE) {
  test(`${how} keeps the process alive`, async (t) => {
    // It is killed, with its record.
    const child = peer(place(t, { untidy: true }), 'channel-alive.mjs', [how])
    await child.tells('set')
    child.ask('pulse')
    await child.tells('pulse')
    t.true(child.running)
  })
}

for (const how of GONE) {
  test(`${how} does not keep the process alive`, async (t) => {
    const child = peer(place(t), 'channel-alive.mjs', [how])
    t.like(await child.end, { code: 0, signal: null }, child.stderr)
  })
}
