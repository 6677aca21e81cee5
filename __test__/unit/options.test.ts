import test from 'ava'
import { announceJson, busJson, metadataJson } from '../../src/bus/options.js'
import { connectJson, queueJson, serveJson, workerJson } from '../../src/channel/options.js'
import { checkLifetime, publisherJson, subscriberJson } from '../../src/topic/options.js'

const INVALID = 'ERR_RINGBELL_INVALID_OPTION'

/** The options that the core gets, without the names of the options that are checked here. */
function options(json: string): unknown {
  const { '': others, ...rest } = JSON.parse(json) as Record<string, unknown>
  if (!Array.isArray(others)) throw new Error('the others have no names')
  return rest
}

test('options that are undefined are not given', (t) => {
  t.deepEqual(options(publisherJson({ capacity: undefined, overflow: 'block' }, 'json')), {
    overflow: 'block',
    codec: 'json',
  })
})

test('options that the binding does not know are not passed on', (t) => {
  const json = publisherJson({ wait: 'spin', codec: 'json', evictAfter: 1.5, capacity: 4096 }, 'json')
  t.deepEqual(options(json), { capacity: 4096, codec: 'json', evictAfter: 1.5 })
  t.deepEqual(options(subscriberJson({ from: 'earliest', acquire: 'auto', wait: 'sleep' }, undefined)), {
    from: 'earliest',
    acquire: 'auto',
  })
  t.deepEqual(options(busJson({ watch: 'poll', pollInterval: 100 })), { watch: 'poll', pollInterval: 100 })
  t.deepEqual(options(serveJson({ maxRequests: 3, maxMessage: 5, capacity: 4096 }, 'json')), {
    capacity: 4096,
    codec: 'json',
  })
  t.deepEqual(options(queueJson({ limit: 3, attempts: 2, timeout: 5, backoff: {}, deadLetters: 0 }, 'bytes')), {
    codec: 'bytes',
  })
  t.deepEqual(options(connectJson({ route: 'first', schemaId: 'a', sendCapacity: 4096 })), { sendCapacity: 4096 })
  // The core and the record know the id of a schema by an older name.
  t.deepEqual(options(publisherJson({ schemaId: 'a' }, 'json')), { codec: 'json', schema: 'a' })
  t.deepEqual(options(announceJson({ schemaId: 'a' })), { schema: 'a' })
  t.deepEqual(options(serveJson({ schemaId: 'a' }, 'json')), { codec: 'json', schema: 'a' })
  t.deepEqual(options(queueJson({ schemaId: 'a' }, 'json')), { codec: 'json', schema: 'a' })
  t.deepEqual(options(workerJson({ schemaId: 'a' })), {})
  t.deepEqual(options(workerJson({ concurrency: 2, acquire: 'stream' })), { acquire: 'stream' })
})

test('an id where a schema belongs, and the other way round', (t) => {
  const cases: [json: () => string, rule: RegExp][] = [
    [() => publisherJson({ schema: 'v1' as never }, 'json'), /schema .*"v1": it must be a Standard Schema.* schemaId/],
    [() => subscriberJson({ schema: 'v1' as never }, 'json'), /schema .*"v1": it must be a Standard Schema/],
    [() => queueJson({ schema: 'v1' as never }, 'json'), /schema .*"v1": it must be a Standard Schema/],
    [() => workerJson({ schema: 'v1' as never }), /schema .*"v1": it must be a Standard Schema/],
    [() => serveJson({ schema: 'v1' } as never, 'json'), /schema .* requests, replies and messages, an id is schemaId/],
    [() => announceJson({ schema: 'v1' } as never), /schema .* is schemaId/],
    [() => serveJson({ messages: 'v1' as never }, 'json'), /messages .*"v1": it must be a Standard Schema/],
    [() => connectJson({ messages: {} as never }), /messages .* must be a Standard Schema/],
    [() => workerJson({ schemaId: {} as never }), /schemaId .* text of 1 to 256 bytes/],
    [() => publisherJson({ schemaId: 'ä'.repeat(129) }, 'json'), /schemaId .* text of 1 to 256 bytes/],
    [() => connectJson({ schemaId: 'a\0' }), /schemaId .* without NUL/],
  ]
  for (const [json, rule] of cases) t.throws(json, { code: INVALID, message: rule })
})

test('the core gets the names of the options that are checked here', (t) => {
  t.deepEqual((JSON.parse(workerJson({ acquire: 'auto' })) as { '': string[] })[''].slice(0, 2), ['wait', 'maxMessage'])
})

test('metadata that JSON cannot carry', (t) => {
  const cyclic: Record<string, unknown> = {}
  cyclic['self'] = cyclic
  const inEveryWay = (metadata: Record<string, unknown>): (() => string)[] => [
    () => publisherJson({ metadata }, 'bytes'),
    () => announceJson({ metadata }),
    () => serveJson({ metadata }, 'bytes'),
    () => queueJson({ metadata }, 'bytes'),
    () => metadataJson(metadata),
  ]
  const deep = { deep: {} }
  for (let level = 0, at: Record<string, unknown> = deep; level < 200; level++) at = at['deep'] = {}
  class Tagged {
    readonly [Symbol.toStringTag] = 'Odd'
  }
  const dropped: [metadata: Record<string, unknown>, rule: RegExp][] = [
    [{ a: 1n }, /Option metadata\.a has the wrong value 1n: it is a bigint, which cannot be carried as JSON\.$/],
    [{ f() {} }, /metadata\.f .* is a function/],
    [{ deep: { list: [0, { s: Symbol('s') }] } }, /metadata\.deep\.list\[1\]\.s .* is a symbol/],
    [{ list: [() => 1] }, /metadata\.list\[0\] .* is a function/],
    [{ ratio: 0 / 0 }, /metadata\.ratio has the wrong value NaN: it is not a finite number/],
    [
      { a: { b: [0, 1, new Map([[1, 2]])] } },
      /metadata\.a\.b\[2\] .*: it is a Map, .* as JSON; use Object\.fromEntries\(\)\.$/,
    ],
    [{ 'a b': new Set() }, /metadata\["a b"\] .*: it is a Set, .* use an array/],
    [{ b: Buffer.from('x') }, /metadata\.b .*: it is a Buffer, .* base64/],
    [{ b: [new Float64Array(2)] }, /metadata\.b\[0\] .*: it is a Float64Array/],
    [{ error: new Error('x') }, /metadata\.error .*: it is an Error/],
    [{ re: /x/, p: Promise.resolve() }, /metadata\.re .*: it is a RegExp/],
    [{ odd: new Tagged() }, /metadata\.odd .*: it is an Odd/],
    [{ list: [1, undefined] }, /metadata\.list\[1\] has the wrong value undefined: it is undefined in a list/],
    [{ list: Object.assign([], { length: 2 }) }, /metadata\.list\[0\] .*undefined in a list/],
    [{ at: new Date(NaN) }, /metadata\.at .*: it is an invalid Date/],
    [{ text: 'a\ud800b' }, /metadata\.text .*: it has half of a surrogate pair/],
    [{ ['\udc00']: 1 }, /metadata\["\\udc00"\] .*: it has half of a surrogate pair/],
    [cyclic, /metadata\.self .*: it refers back to metadata, and JSON cannot carry a cycle/],
    [{ a: [{ b: cyclic }] }, /metadata\.a\[0\]\.b\.self .*: it refers back to metadata\.a\[0\]\.b, /],
    [deep, /metadata .*: it has more than 100 levels/],
  ]
  for (const [metadata, message] of dropped)
    for (const json of inEveryWay(metadata)) t.throws(json, { code: INVALID, message })
})

test('an option that JSON cannot carry is named', (t) => {
  const cyclic: unknown[] = []
  cyclic.push(cyclic)
  const throws = {
    toJSON() {
      throw new Error('not me')
    },
  }
  t.throws(() => busJson({ trustedUids: cyclic as never }), {
    code: INVALID,
    message: /^Option trustedUids\[0\] .*: it refers back to trustedUids,/,
  })
  t.throws(() => serveJson({ metadata: { a: 1 }, endpoints: throws as never }, 'bytes'), {
    code: INVALID,
    message: /^Option endpoints .*: it cannot be carried as JSON: not me\.$/,
  })
  t.throws(() => publisherJson({ access: { uids: [() => 1] } as never }, 'bytes'), {
    code: INVALID,
    message: /^Option access\.uids\[0\] .* is a function/,
  })
})

test('metadata follows JSON: undefined is left out, toJSON is called', (t) => {
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
  for (const json of [publisherJson, subscriberJson, serveJson, queueJson, connectJson, workerJson])
    t.throws(() => json(null as never, 'json'), { code: INVALID })
  t.throws(() => announceJson(null as never), { code: INVALID })
  t.throws(() => checkLifetime({ lifetime: 'forever' as never }), { code: INVALID, message: /lifetime/ })
})

test('values that only TypeScript would refuse are checked', (t) => {
  const wrong: [call: () => string, rule: RegExp][] = [
    [() => publisherJson({ wait: 'snooze' as never }, 'bytes'), /wait .*'sleep', 'spin', 'adaptive'/],
    [
      () => publisherJson({ wait: { mode: 'adaptive', budget: -1 } }, 'bytes'),
      /^Option wait\.budget has the wrong value -1: it must be/,
    ],
    [() => subscriberJson({ ackBatch: 32 }, 'bytes'), /ackBatch has the wrong value 32: it needs ack: 'batch'/],
    [() => serveJson({ maxRequests: 0 }, 'bytes'), /maxRequests has the wrong value 0: it must be/],
    [() => queueJson({ attempts: 0.5 }, 'bytes'), /attempts has the wrong value 0\.5: it must be/],
    [
      () => queueJson({ backoff: { delay: 0 } }, 'bytes'),
      /backoff\.delay has the wrong value 0: it must be a number of milliseconds from 1/,
    ],
    [() => queueJson({ deadLetters: -1 }, 'bytes'), /deadLetters has the wrong value -1: it must be/],
    [() => connectJson({ route: 'random' as never }), /route .*'first', 'round-robin', 'least-busy'/],
    [() => connectJson({ reconnect: { delay: 0 } }), /reconnect\.delay/],
    [() => workerJson({ concurrency: 0 }), /concurrency has the wrong value 0: it must be/],
  ]
  for (const [call, message] of wrong) t.throws(call, { code: INVALID, message })
})
