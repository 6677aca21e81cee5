/** Worker threads: each is an environment of its own, and may be terminated at any moment (FACTS of this design: T30, T16). */
import { Worker } from 'node:worker_threads'
import test from 'ava'
import { isPayload } from '../fixtures/payload.mjs'
import { PATIENCE_MS } from '../helpers/patience.js'
import { peer } from '../helpers/peer.js'
import { place } from '../helpers/place.js'

const TERMINATED = Number(process.env['RINGBELL_TEST_WORKERS'] ?? 30)

test.serial('an add-on that only a worker loads', async (t) => {
  const at = place(t)
  const child = peer(at, 'worker-only.mjs')
  t.is((await child.tells('received'))['received'], 5000)
  t.like(await child.end, { code: 0, signal: null }, child.stderr)
})

test.serial('main thread and workers, each with an environment of its own', async (t) => {
  const at = place(t)
  const bus = await at.bus()
  const subscriber = await bus.subscriber('w.*')
  const workers = ['messages', 'listen', 'borrowed'].map((mode, number) => {
    const worker = new Worker(new URL('../fixtures/worker-stream.mjs', import.meta.url), {
      workerData: { path: at.path, service: `w.${number}`, mode, most: 20_000, readers: 2 },
      execArgv: [],
    })
    at.onEnd(() => worker.terminate())
    return new Promise<number>((resolve, reject) => {
      worker.on('error', reject)
      worker.on('message', ({ what, received }) => what === 'received' && resolve(received as number))
    })
  })
  const next = new Map<string, number>()
  const reading = (async () => {
    for await (const { publisher, sequence, data } of subscriber) {
      const number = next.get(publisher) ?? sequence
      if (sequence !== number || !isPayload(data, number)) throw new Error(`message ${number} is wrong`)
      next.set(publisher, number + 1)
      if (next.size === 3 && [...next.values()].every((count) => count === 20_000)) break
    }
  })()
  t.deepEqual(await Promise.all(workers), [20_000, 20_000, 20_000])
  await reading
})

test.serial('terminated workers: the process survives and leaks nothing', async (t) => {
  const at = place(t)
  t.timeout(PATIENCE_MS + TERMINATED * 2000)
  const child = peer(at, 'workers-terminated.mjs', [TERMINATED], { nodeArgs: ['--expose-gc'] })
  const { before, after, received, errors } = await child.tells('done')
  t.deepEqual(after, before)
  t.is(errors, 0)
  t.true((received as number) > 0)
  t.like(await child.end, { code: 0, signal: null }, child.stderr)
})
