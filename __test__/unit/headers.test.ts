/** Headers as bytes: what may be sent, what is read of bytes that a peer wrote, and that a table never sends something old. */
import test from 'ava'
import {
  decodeHeaders,
  encodeHeaders,
  HeaderTable,
  MOST_HEADER_BYTES,
  MOST_HEADERS,
  NO_HEADERS,
} from '../../src/headers.js'
import { codeOf } from '../helpers/place.js'

/** Headers are objects without a prototype, so they are compared as what they hold. */
const plain = (headers: object): object => ({ ...headers })

test('they come back as they were', (t) => {
  const sent = {
    tenant: 'acme',
    empty: '',
    'x-text': 'zwölf €𝄞\there',
    "!#$%&'*+-.^_`|~09az": '1',
    __proto__x: 'y',
    left: undefined,
  }
  const { left: _, ...rest } = sent
  const headers = decodeHeaders(encodeHeaders(sent))
  t.deepEqual(plain(headers), rest)
  t.is(Object.getPrototypeOf(headers), null)
  t.true(Object.isFrozen(headers))
  t.is(headers['toString'], undefined)
  t.is(decodeHeaders(encodeHeaders({})), NO_HEADERS)
})

test('a name of an object’s own members is a name like any other', (t) => {
  const sent = Object.fromEntries([
    ['__proto__', '1'],
    ['constructor', '2'],
  ])
  Object.defineProperty(sent, '__proto__', { value: '1', enumerable: true })
  const headers = decodeHeaders(encodeHeaders(sent))
  t.deepEqual(Object.entries(headers), [
    ['__proto__', '1'],
    ['constructor', '2'],
  ])
})

test('what cannot be sent is refused, and the error names it', async (t) => {
  const many = Object.fromEntries(Array.from({ length: MOST_HEADERS + 1 }, (_, number) => [String(number), '']))
  const wrong: [value: unknown, told: RegExp][] = [
    [null, /headers/],
    [['a'], /object of strings/],
    ['a', /object of strings/],
    [{ a: 1 }, /headers\["a"\].*must be a string/],
    [{ '': '1' }, /1 to 256 characters/],
    [{ Upper: '1' }, /"Upper".*1 to 256 characters/],
    [{ 'a b': '1' }, /1 to 256 characters/],
    [{ ä: '1' }, /1 to 256 characters/],
    [{ ['x'.repeat(257)]: '1' }, /1 to 256 characters/],
    [{ a: 'two\nlines' }, /headers\["a"\].*control characters/],
    [{ a: '\u007f' }, /control characters/],
    [{ a: 'x'.repeat(MOST_HEADER_BYTES - 4) }, /at most 8192 bytes/],
    [{ a: 'ö'.repeat(MOST_HEADER_BYTES / 2) }, /at most 8192 bytes/],
    [many, /at most 64 headers/],
  ]
  for (const [value, told] of wrong) {
    t.is(await codeOf(() => encodeHeaders(value as never)), 'ERR_RINGBELL_INVALID_OPTION', String(told))
    t.throws(() => encodeHeaders(value as never), { message: told })
  }
  t.is(encodeHeaders({ a: 'x'.repeat(MOST_HEADER_BYTES - 5) }).byteLength, MOST_HEADER_BYTES)
  t.is(encodeHeaders({ ['x'.repeat(256)]: '' }).byteLength, 260)
})

test('a table writes what it is given now, whatever it has written before', (t) => {
  const bytes = new Uint8Array(MOST_HEADER_BYTES)
  const table = new HeaderTable(bytes)
  const written = (headers: Record<string, string | undefined>): object =>
    plain(decodeHeaders(bytes.subarray(0, table.write(headers))))
  const one: Record<string, string | undefined> = { a: '1', b: '2' }
  t.deepEqual(written(one), { a: '1', b: '2' })
  t.deepEqual(written(one), { a: '1', b: '2' })
  one['a'] = '3'
  t.deepEqual(written(one), { a: '3', b: '2' })
  t.deepEqual(written({ a: '3' }), { a: '3' })
  t.deepEqual(written({ a: '3', b: '2', c: '4' }), { a: '3', b: '2', c: '4' })
  t.deepEqual(written({ b: '2', a: '3' }), { b: '2', a: '3' })
  t.deepEqual(written({}), {})
  t.deepEqual(written({ a: undefined, b: '2' }), { b: '2' })
  t.throws(() => table.write({ b: '2', Wrong: '1' }))
  t.deepEqual(written({ b: '2' }), { b: '2' })
  table.load(encodeHeaders({ other: 'x' }))
  t.deepEqual(written({ b: '2' }), { b: '2' })
})

test('bytes of a peer are read up to the first that make no sense', (t) => {
  const whole = encodeHeaders({ a: '1', b: '2' })
  for (let cut = 1; cut < whole.byteLength; cut++)
    t.is(Object.keys(decodeHeaders(whole.subarray(0, cut))).length, Math.floor(cut / 6), String(cut))
  for (const tail of [[0, 0, 1, 0, 120], [1, 0, 255, 255, 120], [255, 255, 0, 0], [1], [0, 0, 0, 0]])
    t.deepEqual(plain(decodeHeaders(Uint8Array.from([...whole, ...tail]))), { a: '1', b: '2' }, String(tail))
  // As the Rust side: both halves must be text by themselves.
  for (const tail of [
    [1, 0, 1, 0, 0x78, 0xff],
    [1, 0, 1, 0, 0xff, 0x78],
    [2, 0, 1, 0, 0x78, 0xc3, 0xa4],
  ])
    t.deepEqual(plain(decodeHeaders(Uint8Array.from([...whole, ...tail, ...whole]))), { a: '1', b: '2' }, String(tail))
  const twice = [...whole, ...encodeHeaders({ a: '', b: '3', c: '4' })]
  t.deepEqual(plain(decodeHeaders(Uint8Array.from(twice))), { a: '1', b: '2', c: '4' })
  const many = Array.from({ length: MOST_HEADERS + 1 }, (_, number) => [...encodeHeaders({ [`n${number}`]: '' })])
  t.is(Object.keys(decodeHeaders(Uint8Array.from(many.flat()))).length, MOST_HEADERS)
})
