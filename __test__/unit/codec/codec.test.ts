import test from 'ava'
import { bytes, decodeWith, encodeWith, json, resolveCodec, structured } from '../../../src/codec/index.js'

const copied = (data: Uint8Array): Uint8Array => data.slice()

test('bytes are not touched', (t) => {
  const data = Uint8Array.of(1, 2, 3)
  t.is(bytes.encode(data), data)
  t.is(bytes.decode(data), data)
})

test('json goes around, whatever the length', (t) => {
  for (const value of [null, 0, '', 'ü'.repeat(70_000), { a: [1, { b: 'é😀' }] }, 'x'.repeat(21_000)]) {
    t.deepEqual(json.decode(copied(json.encode(value))), value)
  }
})

test('json reads a view in the middle of a buffer', (t) => {
  const slab = Buffer.from('xxx{"a":1}yyy')
  t.deepEqual(json.decode(new Uint8Array(slab.buffer, slab.byteOffset + 3, 7)), { a: 1 })
})

test('structured keeps what JSON loses', (t) => {
  const value = { map: new Map([[1, new Date(5)]]), big: 7n, bytes: Uint8Array.of(1, 2), set: new Set(['a']) }
  t.deepEqual(structured.decode(copied(structured.encode(value))), value)
})

test('a failing codec throws a typed error with its cause', (t) => {
  const cyclic: Record<string, unknown> = {}
  cyclic['self'] = cyclic
  for (const [codec, value] of [
    [json, undefined],
    [json, cyclic],
    [json, 1n],
    [structured, () => 1],
  ] as const) {
    const error = t.throws(() => encodeWith(codec, value), { code: 'ERR_RINGBELL_CODEC' })
    t.true(error?.cause instanceof Error)
  }
  for (const codec of [json, structured]) {
    t.throws(() => decodeWith(codec, Uint8Array.of(123, 255)), { code: 'ERR_RINGBELL_CODEC', message: /2 bytes/ })
  }
})

test('codecs by name and by object; other values are refused', (t) => {
  t.is(resolveCodec(undefined).id, 'bytes')
  t.is(resolveCodec('json'), json)
  const own = {
    id: 'own',
    encode: (value: unknown) => value as Uint8Array,
    decode: (data: Uint8Array): unknown => data,
  }
  t.is(resolveCodec(own), own)
  for (const bad of [
    'yaml',
    'toString',
    1,
    null,
    {},
    { ...own, id: '' },
    { ...own, id: 'a b' },
    { ...own, decode: 1 },
  ]) {
    t.throws(() => resolveCodec(bad as never), { code: 'ERR_RINGBELL_INVALID_OPTION', message: /codec/ })
  }
})
