/** However a process ends by itself, its record goes with it at once: nobody has to clean up (D3). */
import test from 'ava'
import { peer } from '../helpers/peer.js'
import { place } from '../helpers/place.js'

const ENDINGS: Record<string, { code: number | null; signal: NodeJS.Signals | null }> = {
  close: { code: 0, signal: null },
  natural: { code: 0, signal: null },
  exit: { code: 7, signal: null },
  'exit-in-callback': { code: 8, signal: null },
  throw: { code: 1, signal: null },
  reject: { code: 1, signal: null },
  'throw-in-callback': { code: 1, signal: null },
  'throw-in-event': { code: 1, signal: null },
  sigterm: { code: 9, signal: null },
}

for (const [ending, expected] of Object.entries(ENDINGS)) {
  test(`ending by ${ending} leaves nothing`, async (t) => {
    const at = place(t)
    const child = peer(at, 'ending.mjs', [ending])
    const { files } = await child.tells('open')
    // Two records, two sockets or more: it was all there.
    t.true((files as string[]).filter((name) => name.endsWith('.json')).length === 2, String(files))
    if (ending === 'sigterm') child.kill('SIGTERM')
    t.like(await child.end, expected, child.stderr)
    if (expected.code === 1) t.regex(child.stderr, /Error: on purpose/)
    t.deepEqual(at.files(), [])
  })
}

test('an exception in a listen callback is an uncaught exception', async (t) => {
  const at = place(t)
  const child = peer(at, 'ending.mjs', ['survive'])
  await child.tells('open')
  t.is((await child.tells('uncaught'))['message'], 'on purpose')
  // The subscriber still works afterwards.
  t.is((await child.tells('again'))['byteLength'], 3)
  t.like(await child.end, { code: 0, signal: null }, child.stderr)
})
