/** What is opened and closed again leaves nothing: descriptors, mappings, threads, memory. Counts must be equal, not similar. */
import test from 'ava'
import { peer } from '../helpers/peer.js'
import { place } from '../helpers/place.js'

for (const acquire of ['auto', 'handshake']) {
  test.serial(`${acquire}: 200 times open and close leaks nothing`, async (t) => {
    const child = peer(place(t), 'cycles.mjs', [acquire, 200], { nodeArgs: ['--expose-gc'] })
    const { before, after } = await child.tells('done')
    t.deepEqual(after, before)
    t.is((await child.end).code, 0, child.stderr)
  })
}

test.serial('kept owned messages stay intact, and their memory is freed', async (t) => {
  const child = peer(place(t), 'kept.mjs', [], { nodeArgs: ['--expose-gc'] })
  const { kept, wrong, grown, left } = await child.tells('done')
  t.deepEqual({ kept, wrong }, { kept: 40_000, wrong: 0 })
  // 160 MiB were kept; what remains is less than a tenth of it.
  t.true((grown as number) > 150, `grew by ${grown} MiB`)
  t.true((left as number) < 16, `${left} MiB remain`)
  t.is((await child.end).code, 0, child.stderr)
})
