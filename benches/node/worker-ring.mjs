// Rival: a ring of one's own in a SharedArrayBuffer, between a worker and the main thread: what somebody who needs speed inside
// one process writes by hand. Whole frames of length and bytes, 8-byte aligned; a frame that does not fit before the end is
// preceded by a filler. Positions are counted in bytes modulo 2^31. The writer commits every message, the reader gives back a run
// at a time. Both look for a while before they sleep with `Atomics.waitAsync` (so the event loops go on); who stores its counter
// wakes the other one only if it says that it sleeps. The reader checks the bytes where they lie: compare with *borrowed*.
// One process, so its CPU time is that of both sides.

import { host as workerHost } from './worker.mjs'
import { stamp, template } from '../harness/payload.mjs'
import { turn } from './turn.mjs'

// Each word on a cache line of its own.
const HEAD = 0
const TAIL = 32
const READER_SLEEPS = 64
const WRITER_SLEEPS = 96
const CONTROL_BYTES = 512
const HEADER = 8
const FILLER = -1
const LOOKS = 2000

class Ring {
  constructor(shared) {
    this.words = new Int32Array(shared, 0, CONTROL_BYTES / 4)
    this.bytes = new Uint8Array(shared, CONTROL_BYTES)
    this.lengths = new Int32Array(shared, CONTROL_BYTES)
    this.capacity = this.bytes.length
    this.own = 0
    this.other = 0
  }

  /** Resolves when counter `which` is no longer `seen`: at once, or after a sleep that `flag` tells the other side of. */
  async changed(which, seen, flag) {
    const { words } = this
    for (let i = 0; i < LOOKS; i++) if (Atomics.load(words, which) !== seen) return
    Atomics.store(words, flag, 1)
    const waiting = Atomics.waitAsync(words, which, seen)
    if (waiting.async) await waiting.value
    Atomics.store(words, flag, 0)
  }

  store(which, value, flag) {
    const { words } = this
    Atomics.store(words, which, value)
    if (Atomics.load(words, flag) === 1) Atomics.notify(words, which)
  }
}

const frameOf = (size) => (HEADER + size + 7) & ~7
const after = (position, bytes) => (position + bytes) & 0x7fffffff
const between = (from, to) => (to - from) & 0x7fffffff

/** The worker gets the memory as data; the sender, on the main thread, as its link. */
export function host(job) {
  const ring = new SharedArrayBuffer(CONTROL_BYTES + (job.size >= 65536 ? 8 << 20 : 1 << 20))
  return { ...workerHost({ ...job, ring }), link: ring }
}

export async function sender(job, shared) {
  const ring = new Ring(shared)
  const { bytes, lengths, capacity } = ring
  const message = template(job.size)
  const frame = frameOf(job.size)
  const burst = Math.max(1, (1 << 20) / job.size)
  const room = async (needed) => {
    while (capacity - between(ring.other, ring.own) < needed) {
      await ring.changed(TAIL, ring.other, WRITER_SLEEPS)
      ring.other = Atomics.load(ring.words, TAIL)
    }
  }
  return {
    async pump(flow) {
      while (flow.running) {
        for (let i = 0; i < burst; i++) {
          let at = ring.own % capacity
          const filler = at + frame > capacity ? capacity - at : 0
          if (capacity - between(ring.other, ring.own) < filler + frame) await room(filler + frame)
          if (filler > 0) {
            lengths[at >> 2] = FILLER
            at = 0
          }
          stamp(message, 0, job.size, flow.sequence++)
          lengths[at >> 2] = job.size
          bytes.set(message, at + HEADER)
          ring.own = after(ring.own, filler + frame)
          ring.store(HEAD, ring.own, READER_SLEEPS)
          flow.sent++
        }
        await turn()
      }
    },
  }
}

/** The most bytes that are read before room is given back and the event loop has its turn. */
const RUN_BYTES = 65536

export async function receiver(job, check) {
  const ring = new Ring(job.ring)
  const { bytes, lengths, capacity } = ring
  const read = async () => {
    let sinceTurn = 0
    for (;;) {
      if (ring.other === ring.own) {
        await ring.changed(HEAD, ring.own, READER_SLEEPS)
        ring.other = Atomics.load(ring.words, HEAD)
        continue
      }
      const from = ring.own
      while (ring.own !== ring.other && between(from, ring.own) < RUN_BYTES) {
        const at = ring.own % capacity
        const length = lengths[at >> 2]
        if (length === FILLER) {
          ring.own = after(ring.own, capacity - at)
          continue
        }
        check.take(bytes, at + HEADER, length)
        ring.own = after(ring.own, frameOf(length))
      }
      sinceTurn += between(from, ring.own)
      ring.store(TAIL, ring.own, WRITER_SLEEPS)
      if (sinceTurn >= 1 << 20) {
        sinceTurn = 0
        await turn()
      }
    }
  }
  read().catch((error) =>
    queueMicrotask(() => {
      throw error
    }),
  )
}
