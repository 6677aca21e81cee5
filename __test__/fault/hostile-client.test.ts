/** Clients that break their own cursor, in the memory that they share with a server: only their connections end. */
import { once } from 'node:events'
import { chmodSync } from 'node:fs'
import test, { type ExecutionContext } from 'ava'
import { asRoot, GUEST } from '../helpers/as-root.js'
import { peer } from '../helpers/peer.js'
import { place, until } from '../helpers/place.js'
import { rungs } from '../helpers/rungs.js'

/** More replies than its ring has room for, so that the server must look at the cursor. */
const CALLS = 400

async function survives(t: ExecutionContext, uid: number): Promise<void> {
  if (!rungs.includes('handshake')) {
    t.pass('no memory is shared here')
    return
  }
  const at = place(t)
  chmodSync(at.path, 0o755)
  const bus = await at.bus()
  let release = (): void => {}
  const released = new Promise<void>((resolve) => (release = resolve))
  const access = uid === 0 ? {} : { access: { uids: [uid] } }
  const server = await bus.serve<object, object>(
    'calls',
    { codec: 'json', capacity: 8192, ...access },
    async (request) => {
      await released
      return request
    },
  )
  const hostile = peer(at, 'hostile-client.mjs', ['calls', CALLS], { env: { RINGBELL_TEST_UID: String(uid) } })
  await until(() => server.stats().inHand === CALLS)
  const own = await bus.connect<object, object>('calls', { codec: 'json' })
  const mine = own.call({ mine: true })
  hostile.ask('break')
  t.true(((await hostile.tells('broken'))['cursors'] as number) > 0)
  const failed = once(server, 'failed')
  const gone = once(server, 'disconnected')
  release()
  t.like((await failed)[0], { code: 'ERR_RINGBELL_CORRUPT_PEER' })
  t.is((await gone)[1], 'failed')
  t.deepEqual(await mine, { mine: true })
  t.is(server.stats().inHand, 0)
}

test('a server survives a client that breaks its own cursor', (t) => survives(t, 0))

asRoot('a server survives a client of another user that breaks its own cursor', (t) => survives(t, GUEST))
