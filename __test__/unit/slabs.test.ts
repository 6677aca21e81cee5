import { MessageChannel } from 'node:worker_threads'
import test from 'ava'
import { LARGEST_SLAB, Slabs } from '../../src/slabs.js'
import { transferTo } from '../helpers/transfer.js'

test('a slab grows with what is drained, and not beyond the largest size', (t) => {
  const slabs = new Slabs()
  const first = slabs.bytes.byteLength
  const sizes = new Set<number>()
  for (let drained = 1024; drained <= 1 << 20; drained *= 2) {
    slabs.used(drained)
    slabs.renew(0)
    sizes.add(slabs.bytes.byteLength)
    t.true(slabs.bytes.byteLength >= first && slabs.bytes.byteLength <= LARGEST_SLAB)
    t.is(slabs.fill, 0)
  }
  t.true(sizes.has(LARGEST_SLAB))
})

test('a message larger than any slab gets one of its own size', (t) => {
  const slabs = new Slabs()
  slabs.renew(4 * LARGEST_SLAB + 40)
  t.is(slabs.bytes.byteLength, 4 * LARGEST_SLAB + 40)
  t.is(slabs.bytes.byteOffset % 8, 0)
})

test('no slab of any size shares its memory with another one', (t) => {
  const slabs = new Slabs()
  const seen = new Set([slabs.bytes.buffer])
  for (const needed of [0, 20_000, 65_536, LARGEST_SLAB, 1 << 20]) {
    slabs.renew(needed)
    t.false(seen.has(slabs.bytes.buffer))
    t.is(slabs.bytes.buffer.byteLength, slabs.bytes.byteLength)
    seen.add(slabs.bytes.buffer)
  }
})

test('a slab of any size survives a transfer', (t) => {
  const { port1 } = new MessageChannel()
  t.teardown(() => port1.close())
  const slabs = new Slabs()
  for (const needed of [0, 65_536, LARGEST_SLAB, 1 << 20]) {
    slabs.renew(needed)
    const length = slabs.bytes.byteLength
    transferTo(port1)(slabs.bytes)
    t.is(slabs.bytes.byteLength, length)
  }
})
