/**
 * Large messages without a copy on either side: a loan is written in the ring itself, a lease is read there. A lease is
 * read-only memory (writing to it kills the process), and text must be copied before it is decoded. Run: node examples/lease.mjs
 */
import { Bus } from 'ringbell'

const FRAMES = 200
const FRAME_BYTES = 1 << 20

const bus = await Bus.open()
const camera = await bus.publisher('example.camera', { capacity: 8 << 20, overflow: 'block' })
const viewer = await bus.subscriber('example.camera')
await viewer.attached()

async function film() {
  for (let n = 0; n < FRAMES; n++) {
    let frame = camera.loan(FRAME_BYTES)
    while (frame === undefined) {
      await camera.ready()
      frame = camera.loan(FRAME_BYTES)
    }
    frame.data.fill(n)
    frame.commit()
  }
}

async function view() {
  let seen = 0
  const begin = performance.now()
  for await (const batch of viewer.batches({ lifetime: 'lease' })) {
    for (let i = 0; i < batch.length; i++) {
      const pixels = batch.data(i)
      const colour = batch.sequence(i) & 0xff
      if (pixels[0] !== colour || pixels[pixels.length - 1] !== colour) throw new Error('torn frame')
      seen++
    }
    if (seen === FRAMES) break
  }
  const seconds = (performance.now() - begin) / 1000
  console.log(`${seen} frames of 1 MiB, ${((seen * FRAME_BYTES) / seconds / 1e9).toFixed(1)} GB/s, none copied`)
}

await Promise.all([film(), view()])
await bus.close()
