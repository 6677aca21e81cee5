/** docs/guide/diagnostics.md, the exported types and the library have the same diagnostics channels. */
import { readFileSync } from 'node:fs'
import test from 'ava'
import type { DiagnosticsChannel } from 'ringbell'
import { channels } from '../../src/diagnostics.js'

type Kinds = typeof channels
type Published = { [K in keyof Kinds]: `ringbell:${K}:${keyof Kinds[K] & string}` }[keyof Kinds]
/** Each list has all of the other. */
type Same<A, B> = [A, B] extends [B, A] ? true : never
const same: Same<DiagnosticsChannel, Published> = true

test('the page of the diagnostics channels lists exactly those of the library', (t) => {
  const page = readFileSync(new URL('../../docs/guide/diagnostics.md', import.meta.url), 'utf8')
  const [, table = ''] = page.split('## All channels')
  const listed = [...table.matchAll(/`(ringbell:\w+:\w+)`/g)].map(([, name]) => name)
  const published = Object.values(channels).flatMap((kind) => Object.values(kind).map(({ name }) => name))
  t.deepEqual(new Set(listed), new Set(published))
  t.is(listed.length, published.length)
  t.true(same)
})
