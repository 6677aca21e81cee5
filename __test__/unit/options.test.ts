import test from 'ava'
import { announceJson, busJson, checkLifetime, metadataJson, publisherJson, subscriberJson } from '../../src/options.js'
import { queueJson, serveJson } from '../../src/channel/options.js'
import { checkName } from '../../src/names.js'

const INVALID = 'ERR_RINGBELL_INVALID_OPTION'

const wrong: [name: string, value: unknown, rule: RegExp][] = [
  ['capacity', 5000, /capacity \(5000\) must be a power of two from 4096/],
  ['capacity', 2048, /power of two/],
  ['capacity', 2 ** 31, /1073741824/],
  ['capacity', '1MiB', /'1MiB'/],
  ['overflow', 'drop', /'block', 'drop-oldest', 'drop-newest'/],
  ['maxSubscribers', 0, /from 1 to 1024/],
  ['maxSubscribers', 1.5, /whole number/],
  ['evictAfter', 0, /milliseconds/],
  ['evictAfter', Number.NaN, /NaN/],
  ['metadata', [], /object/],
  ['endpoints', { http: 80 }, /strings/],
  ['offers', ['direct', 'smoke'], /list/],
  ['allowDirect', 'yes', /true or false/],
  ['wait', 'snooze', /'sleep', 'spin', 'adaptive'/],
  ['wait', { mode: 'adaptive', budget: -1 }, /budget/],
  ['access', 'all', /object/],
  ['access', { mode: 0o777 }, /access\.mode must be 0o660 or 0o666/],
  ['access', { uids: [-1] }, /access\.uids must be a list of user ids/],
  ['access', { gids: [65_534] }, /access\.gids must be a list of group ids/],
  ['access', { group: 65_534 }, /access\.group must be the name of a group/],
  ['access', { maxGuests: 65 }, /access\.maxGuests .*from 1 to 64/],
  ['access', { evictAfter: 0 }, /access\.evictAfter .*milliseconds/],
  ['access', { guests: 1 }, /no option guests; there are mode, group/],
  ['overfow', 'block', /overfow.*is not an option here.*overflow/],
]

for (const [name, value, rule] of wrong) {
  test(`a publisher's ${name} is not ${JSON.stringify(value)}`, (t) => {
    t.throws(() => publisherJson({ [name]: value }, 'bytes'), { code: INVALID, message: rule })
  })
}

test('options that are undefined are not given', (t) => {
  t.deepEqual(JSON.parse(publisherJson({ capacity: undefined, overflow: 'block' }, 'json')), {
    overflow: 'block',
    codec: 'json',
  })
})

test('what the binding does not know stays here', (t) => {
  const json = publisherJson({ wait: 'spin', codec: 'json', evictAfter: 1.5, capacity: 4096 }, 'json')
  t.deepEqual(JSON.parse(json), { capacity: 4096, codec: 'json', evictAfterMs: 2 })
  t.deepEqual(JSON.parse(subscriberJson({ from: 'earliest', acquire: 'auto', wait: 'sleep' }, undefined)), {
    from: 'earliest',
  })
  t.deepEqual(JSON.parse(busJson({ watch: 'poll', pollInterval: 100, acquire: 'direct' })), {
    inotify: false,
    pollIntervalMs: 100,
    acquire: 'direct',
  })
  t.deepEqual(JSON.parse(announceJson('api', { kind: 'http' })), { service: 'api', kind: 'http' })
  t.deepEqual(JSON.parse(publisherJson({ access: { uids: [7], evictAfter: 1.5 } }, 'bytes')), {
    codec: 'bytes',
    access: { uids: [7], evictAfterMs: 2 },
  })
  t.deepEqual(JSON.parse(busJson({ group: 'ipc' })), { group: 'ipc' })
})

test('metadata that JSON cannot carry', (t) => {
  const cyclic: Record<string, unknown> = {}
  cyclic['self'] = cyclic
  const inEveryWay = (metadata: Record<string, unknown>): (() => string)[] => [
    () => publisherJson({ metadata }, 'bytes'),
    () => announceJson('api', { metadata }),
    () => serveJson({ metadata }, 'bytes'),
    () => queueJson({ metadata }, 'bytes'),
    () => metadataJson(metadata),
  ]
  for (const json of inEveryWay(cyclic)) {
    const error = t.throws(json, { code: INVALID, message: /metadata/ })
    t.true(error?.cause instanceof TypeError)
  }
  const dropped: [metadata: Record<string, unknown>, rule: RegExp][] = [
    [{ a: 1n }, /Option metadata\.a \(1n\) is a bigint, which JSON cannot carry/],
    [{ f() {} }, /metadata\.f .* is a function/],
    [{ deep: { list: [0, { s: Symbol('s') }] } }, /metadata\.deep\.list\[1\]\.s .* is a symbol/],
    [{ list: [() => 1] }, /metadata\.list\[0\] .* is a function/],
  ]
  for (const [metadata, message] of dropped)
    for (const json of inEveryWay(metadata)) t.throws(json, { code: INVALID, message })
})

test('metadata as JSON has it: what is undefined is not there, what knows better says so itself', (t) => {
  const shared = { b: 1 }
  const metadata = { a: undefined, at: new Date(0), shared, again: shared, own: { toJSON: () => 'own' } }
  t.deepEqual(JSON.parse(metadataJson(metadata)), {
    at: '1970-01-01T00:00:00.000Z',
    shared: { b: 1 },
    again: { b: 1 },
    own: 'own',
  })
})

test('options must be an object', (t) => {
  t.throws(() => busJson('x' as never), { code: INVALID })
  t.throws(() => busJson(null as never), { code: INVALID })
  t.throws(() => checkLifetime({ lifetime: 'forever' as never }), { code: INVALID, message: /lifetime/ })
})

test('names', (t) => {
  for (const name of ['a', '0', 'sensors.cpu-0_x', 'a'.repeat(64)]) t.notThrows(() => checkName(name, 'service name'))
  for (const name of ['', '.a', '-a', 'a b', 'a/b', 'ä', 'a'.repeat(65), 'a\n', undefined, 5, '*']) {
    t.throws(() => checkName(name, 'service name'), { code: 'ERR_RINGBELL_INVALID_NAME' }, String(name))
  }
  t.throws(() => checkName('../etc', 'service name'), { message: /'\.\.\/etc'.*1 to 64/ })
})
