/** States that another user reads, and cannot write. Children become that user, which only root can do. */
import { chmodSync } from 'node:fs'
import { asRoot, GUEST, STRANGER } from '../helpers/as-root.js'
import { peer } from '../helpers/peer.js'
import { place, until } from '../helpers/place.js'

asRoot('a state is read by a user who has access, and by no other', async (t) => {
  const at = place(t)
  chmodSync(at.path, 0o755)
  const bus = await at.bus()
  const access = { uids: [GUEST] }
  const one = await bus.state<number>('one', { codec: 'json', access })
  const many = await bus.keyedState<number>('many', { codec: 'json', access })
  one.set(1)
  many.set('a', 1)
  const guest = peer(at, 'state-guest.mjs', [GUEST])
  t.like(await guest.tells('value'), { value: 1, read: 1 })
  t.like(await guest.tells('key'), { key: 'a', value: 1 })
  one.set(2)
  t.like(await guest.tells('value'), { value: 2, read: 2 })
  many.set('b', 2)
  t.like(await guest.tells('key'), { key: 'b', value: 2 })
  guest.ask('write')
  t.deepEqual((await guest.tells('refused'))['codes'], ['ERR_RINGBELL_NO_PERMISSION', 'ERR_RINGBELL_NO_PERMISSION'])
  one.set(3)
  t.like(await guest.tells('value'), { value: 3, read: 3 })

  const stranger = peer(at, 'state-guest.mjs', [STRANGER])
  t.is((await stranger.tells('failed'))['code'], 'ERR_RINGBELL_ACQUIRE')
  await until(() => one.readers === 1 && many.readers === 1)
})
