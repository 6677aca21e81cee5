/** Options that the core checks: each error names the option's path and the value, comes at once, and nothing is made before. */
import test from 'ava'
import type { Bus } from 'ringbell'
import { codeOf, place } from '../helpers/place.js'

const INVALID = 'ERR_RINGBELL_INVALID_OPTION'

/** What is opened with the options, and the end of its record's name. */
const OPEN: Record<string, (bus: Bus, options: object) => Promise<unknown>> = {
  publisher: (bus, options) => bus.publisher('x', options),
  subscriber: (bus, options) => bus.subscriber('x', options),
  serve: (bus, options) => bus.serve('x', options),
  queue: (bus, options) => bus.queue('x', options),
  connect: (bus, options) => bus.connect('x', options),
  worker: (bus, options) => bus.worker('x', options, () => undefined),
  announce: (bus, options) => bus.announce('x', options),
}

const WRONG: [what: string, options: object, message: RegExp][] = [
  [
    'publisher',
    { capacity: 5000 },
    /^Option capacity has the wrong value 5000: it must be bytes, a power of two from 4096.*\.$/,
  ],
  ['publisher', { capacity: 2048 }, /power of two/],
  ['publisher', { capacity: 2 ** 31 }, /1073741824/],
  ['publisher', { capacity: '1MiB' }, /capacity .*"1MiB"/],
  ['publisher', { capacity: '64' }, /capacity .*"64": it must be a whole number from 0 to 9007199254740991/],
  ['publisher', { capacity: null }, /capacity .*null/],
  ['publisher', { capacity: 4096.5 }, /capacity .*4096\.5/],
  ['publisher', { overflow: 'drop' }, /'block', 'drop-oldest' or 'drop-newest'/],
  ['publisher', { maxSubscribers: 0 }, /maxSubscribers .*from 1 to 1024/],
  ['publisher', { maxSubscribers: 70_000 }, /maxSubscribers .*70000/],
  ['publisher', { maxSubscribers: 1.5 }, /maxSubscribers .*1\.5: it must be a whole number from 0 to 65535/],
  ['publisher', { evictAfter: 0 }, /evictAfter .*longer than zero/],
  ['publisher', { evictAfter: -0.5 }, /evictAfter .*milliseconds/],
  ['publisher', { evictAfter: Number.NaN }, /evictAfter has the wrong value NaN: it is not a finite number/],
  ['publisher', { evictAfter: 2 ** 31 }, /evictAfter .*2147483648: it must be milliseconds from 0 to 2147483647/],
  ['publisher', { evictAfter: 1e300 }, /evictAfter .*milliseconds/],
  ['publisher', { metadata: [] }, /metadata .*\[\]/],
  ['publisher', { endpoints: { http: 80 } }, /endpoints\.http .* 80: it must be a string\.$/],
  ['publisher', { endpoints: { '': 'unix:/x' } }, /endpoints .*1 to 256 bytes/],
  ['publisher', { schemaId: '' }, /schemaId .*1 to 256 bytes/],
  ['publisher', { schemaId: 'x'.repeat(257) }, /schemaId .*1 to 256 bytes/],
  [
    'publisher',
    { offers: ['direct', 'smoke'] },
    /offers\[1\] .*"smoke": it must be one of 'direct', 'handshake', 'stream'\.$/,
  ],
  ['publisher', { allowDirect: 'yes' }, /allowDirect .*"yes": it must be true or false\.$/],
  ['publisher', { access: 'all' }, /access .*"all": it must be an object\.$/],
  ['publisher', { access: { mode: 0o777 } }, /access\.mode .*0o660/],
  ['publisher', { access: { uids: [-1] } }, /access\.uids\[0\] .* -1: it must be a whole number from 0 to 4294967295/],
  ['publisher', { access: { maxGuests: 256 } }, /access\.maxGuests .* 256: it must be a whole number from 0 to 255/],
  ['publisher', { access: { gids: [65_534] } }, /access\.gids .*65534/],
  ['publisher', { access: { group: 65_534 } }, /access\.group .*65534/],
  ['publisher', { access: { group: [] } }, /access\.group .*: it must be the name of a group, or its number\.$/],
  ['publisher', { access: { uids: [7], maxGuests: 65 } }, /access\.maxGuests .*from 1 to 64/],
  ['publisher', { access: { uids: [7], evictAfter: 0 } }, /access\.evictAfter .*1 ms/],
  [
    'publisher',
    { access: { guests: 1 } },
    /access\.guests .* 1: it is not an option here; the options are mode, group.*evictAfter\.$/,
  ],
  ['publisher', { overfow: 'block' }, /overfow .*"block": it is not an option here; the options are .*overflow/],
  ['subscriber', { from: 'yesterday' }, /from .*: it must be one of 'latest', 'earliest'\.$/],
  ['subscriber', { acquire: 'pigeon' }, /acquire .*'auto', 'direct', 'handshake' or 'stream'/],
  ['subscriber', { maxMessage: 0 }, /maxMessage .*from 1 to/],
  ['subscriber', { reconnect: { often: 3 } }, /reconnect\.often .* 3: it is not an option here; the options are tries/],
  ['subscriber', { capacity: 4096 }, /capacity .*is not an option here/],
  [
    'publisher',
    { requests: { validate() {} } },
    /requests .*: it is not an option here; the schema of its messages is the option schema\.$/,
  ],
  ['subscriber', { messages: 1 }, /messages .*is not an option here; the schema of its messages is the option schema/],
  ['queue', { replies: { validate() {} } }, /replies .*is not an option here; the schema of its messages is/],
  ['worker', { requests: { validate() {} } }, /requests .*is not an option here; the schema of its messages is/],
  ['queue', { requets: 1 }, /requets .* 1: it is not an option here; (?!.*requests)/],
  [
    'connect',
    { schema: { '~standard': { version: 1, validate() {} } } },
    /schema .*: it is not an option here; its schemas are requests, replies and messages, an id is schemaId\.$/,
  ],
  ['serve', { maxConnections: 0 }, /maxConnections .*from 1 to 65535/],
  ['serve', { wiat: 'spin' }, /wiat .*"spin": it is not an option here; .*capacity.*wait.*maxMessage/],
  ['serve', { kind: 'queue' }, /kind .*is not an option here/],
  ['serve', { reconnect: {} }, /reconnect .*is not an option here/],
  ['queue', { offers: ['direct'] }, /offers .*handshake, stream or both/],
  ['queue', { maxRequests: 3 }, /maxRequests .*is not an option here/],
  ['connect', { sendCapacity: 5000 }, /sendCapacity .*5000.*power of two/],
  ['connect', { receiveCapacity: -1 }, /receiveCapacity .*-1/],
  ['worker', { acquire: 5 }, /acquire .* 5/],
  ['worker', { attempts: 5 }, /attempts .*is not an option here/],
  ['announce', { codec: '' }, /codec .*1 to 256 bytes/],
  ['announce', { service: 'y' }, /service .*is not an option here/],
]

for (const [what, options, message] of WRONG) {
  test(`${what} is not opened with ${JSON.stringify(options).slice(0, 60)}`, async (t) => {
    const at = place(t)
    const bus = await at.bus()
    await t.throwsAsync(async () => OPEN[what]?.(bus, options), { code: INVALID, message })
    t.deepEqual(at.files(), [])
  })
}

test('safeDoorbells is an option of a bus, and a flag', async (t) => {
  const at = place(t)
  await t.throwsAsync(() => at.bus({ safeDoorbells: 'yes' as never }), {
    code: INVALID,
    message: /safeDoorbells .*"yes": it must be true or false/,
  })
  for (const safeDoorbells of [false, undefined]) await t.notThrowsAsync(at.bus({ safeDoorbells }))
})

test('times may have fractions, and what is undefined is not given', async (t) => {
  const bus = await place(t).bus()
  const publisher = await bus.publisher('x', { evictAfter: 0.5, capacity: undefined })
  t.is(publisher.service.topic?.capacity, 2 ** 20)
  t.is(publisher.service.topic?.evictAfter, 1)
})

test('names and metadata that the core refuses', async (t) => {
  const bus = await place(t).bus()
  for (const name of ['', '.a', '-a', 'a b', 'a/b', 'ä', 'a'.repeat(65), 'a\n', undefined, 5, '*'] as string[]) {
    for (const [what, open] of Object.entries({
      publisher: () => bus.publisher(name),
      serve: () => bus.serve(name),
      queue: () => bus.queue(name),
      connect: () => bus.connect(name),
      worker: () => bus.worker(name, () => undefined),
      announce: () => bus.announce(name),
      find: () => bus.services.find(name),
      findAll: () => bus.services.findAll(name),
    }))
      t.is(await codeOf(open), 'ERR_RINGBELL_INVALID_NAME', `${what} ${name}`)
  }
  await t.throwsAsync(bus.connect('../etc'), { message: /'\.\.\/etc'.*1 to 64/ })
  for (const name of ['a', '0', 'sensors.cpu-0_x', 'a'.repeat(64)]) await t.notThrowsAsync(bus.connect(name))
  const announced = await bus.announce('x')
  for (const x of [117.63331139400017, 5e-324, 1.7976931348623157e308, 2 ** 53 + 2, 1e21, 1 / 3]) {
    announced.update({ x, deep: [{ x: -x }] })
    t.deepEqual(announced.service.metadata, { x, deep: [{ x: -x }] })
    t.deepEqual(bus.services.list().find(({ name }) => name === 'x')?.metadata, { x, deep: [{ x: -x }] })
  }
  for (const metadata of [undefined, null, [], 'text'])
    t.throws(() => announced.update(metadata as never), { code: INVALID, message: /metadata .*an object/ })
})
