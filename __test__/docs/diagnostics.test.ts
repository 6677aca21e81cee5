/** docs/guide/diagnostics.md, the exported types and the library have the same diagnostics channels. */
import { readdirSync, readFileSync } from 'node:fs'
import test from 'ava'
import type { DiagnosticsChannel } from 'ringbell'
import { channels } from '../../src/diagnostics.js'

type Kinds = typeof channels
type Published = { [K in keyof Kinds]: `ringbell:${K}:${keyof Kinds[K] & string}` }[keyof Kinds]
/** Each list has all of the other. */
type Same<A, B> = [A, B] extends [B, A] ? true : never
const same: Same<DiagnosticsChannel, Published> = true

const ROOT = new URL('../../', import.meta.url)
const page = readFileSync(new URL('docs/guide/diagnostics.md', ROOT), 'utf8')

/** The table under a heading. */
function section(title: string): string {
  const [, rest = ''] = page.split(`\n## ${title}\n`)
  return rest.split('\n## ')[0] ?? ''
}

const published = Object.values(channels).flatMap((kind) => Object.values(kind).map(({ name }) => name))

test('the page of the diagnostics channels lists exactly those of the library', (t) => {
  const listed = [...section('All channels').matchAll(/`(ringbell:\w+:\w+)`/g)].map(([, name]) => name)
  t.deepEqual(new Set(listed), new Set(published))
  t.is(listed.length, published.length)
  t.true(same)
})

/** Where the events of each kind are declared. */
const EVENTS: Readonly<Record<string, string>> = {
  publisher: 'topic/audience.ts',
  subscriber: 'topic/notices.ts',
  stateReader: 'state/notices.ts',
  server: 'channel/server.ts',
  client: 'channel/client.ts',
  queue: 'channel/queue.ts',
  worker: 'channel/worker.ts',
  member: 'bus/membership.ts',
}

test('the details of each event are those that are declared', (t) => {
  const declared = Object.entries(EVENTS).flatMap(([kind, file]) => {
    const source = readFileSync(new URL(`src/${file}`, ROOT), 'utf8')
    const [, body = ''] = /export interface \w+Events.*?\{\n(.*?)\n\}/s.exec(source) ?? []
    return [...body.matchAll(/^ {2}(\w+): \[(.*)\]$/gm)].map(([, event, tuple = '']) => {
      const names = [...tuple.matchAll(/(\w+)\??: /g)].map(([, name]) => name)
      return `ringbell:${kind}:${event} ${names.join()}`
    })
  })
  const told = section('The details of events')
    .split('\n')
    .flatMap((row) => {
      const [, names = '', details = ''] = row.split('|')
      const list = details.split(':')[0]?.match(/\w+/g) ?? []
      return [...names.matchAll(/`(ringbell:\w+:\w+)`/g)].map(([, name]) => `${name} ${list.join()}`)
    })
  t.true(declared.length > 20)
  t.deepEqual(told.toSorted(), declared.toSorted())
  const names = told.map((one) => one.replace(/ .*/, ''))
  t.deepEqual(
    names.filter((name) => !published.includes(name)),
    [],
  )
})

test('every channel is made in one file', (t) => {
  const sources = readdirSync(new URL('src', ROOT), { recursive: true, encoding: 'utf8' })
  const makers = sources.filter((path) => {
    if (!path.endsWith('.ts')) return false
    const text = readFileSync(new URL(`src/${path}`, ROOT), 'utf8')
    return /import \{[^}]*\b(channel|tracingChannel)\b[^}]*\} from 'node:diagnostics_channel'/.test(text)
  })
  t.deepEqual(makers, ['diagnostics.ts'])
})
