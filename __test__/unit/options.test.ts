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
  t.deepEqual(options(connectJson({ route: 'first', schema: 'a', sendCapacity: 4096 })), { sendCapacity: 4096 })
  t.deepEqual(options(workerJson({ concurrency: 2, acquire: 'stream' })), { acquire: 'stream' })
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
  for (const json of inEveryWay(cyclic)) {
    const error = t.throws(json, { code: INVALID, message: /metadata/ })
    t.true(error?.cause instanceof TypeError)
  }
  const dropped: [metadata: Record<string, unknown>, rule: RegExp][] = [
    [{ a: 1n }, /Option metadata\.a \(1n\) is a bigint, which JSON cannot carry/],
    [{ f() {} }, /metadata\.f .* is a function/],
    [{ deep: { list: [0, { s: Symbol('s') }] } }, /metadata\.deep\.list\[1\]\.s .* is a symbol/],
    [{ list: [() => 1] }, /metadata\.list\[0\] .* is a function/],
    [{ ratio: 0 / 0 }, /metadata\.ratio \(NaN\) is not a finite number/],
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
  t.throws(() => busJson({ trustedUids: cyclic as never }), { code: INVALID, message: /^Option trustedUids must/ })
  t.throws(() => serveJson({ metadata: { a: 1 }, endpoints: throws as never }, 'bytes'), {
    code: INVALID,
    message: /^Option endpoints must .*: not me/,
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
  t.throws(() => checkLifetime({ lifetime: 'forever' as never }), { code: INVALID, message: /lifetime/ })
})

test('values that only TypeScript would refuse are checked', (t) => {
  const wrong: [call: () => string, rule: RegExp][] = [
    [() => publisherJson({ wait: 'snooze' as never }, 'bytes'), /wait .*'sleep', 'spin', 'adaptive'/],
    [() => publisherJson({ wait: { mode: 'adaptive', budget: -1 } }, 'bytes'), /budget/],
    [() => subscriberJson({ ackBatch: 32 }, 'bytes'), /ackBatch \(32\) needs ack: 'batch'/],
    [() => serveJson({ maxRequests: 0 }, 'bytes'), /maxRequests \(0\)/],
    [() => queueJson({ attempts: 0.5 }, 'bytes'), /attempts \(0\.5\)/],
    [() => queueJson({ backoff: { delay: 0 } }, 'bytes'), /backoff\.delay must be a number of milliseconds from 1/],
    [() => queueJson({ deadLetters: -1 }, 'bytes'), /deadLetters \(-1\)/],
    [() => connectJson({ route: 'random' as never }), /route .*'first', 'round-robin', 'least-busy'/],
    [() => connectJson({ reconnect: { delay: 0 } }), /reconnect\.delay/],
    [() => workerJson({ concurrency: 0 }), /concurrency \(0\)/],
  ]
  for (const [call, message] of wrong) t.throws(call, { code: INVALID, message })
})
