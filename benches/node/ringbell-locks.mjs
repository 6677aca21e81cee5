// Locks seen from Node: one process without rivals, and several that want the same one. ringbell's, and proper-lockfile's,
// which makes a directory beside a file.

import { writeFileSync } from 'node:fs'
import path from 'node:path'
import { Bus } from '../../index.js'

/** Takes and gives back, in each way, as often as asked. */
const WAYS = {
  tryAcquire: async (job) => {
    const lock = await (await Bus.open({ path: job.bus })).locks.open('bench')
    return (count) => {
      for (let i = 0; i < count; i++) lock.tryAcquire().release()
    }
  },
  acquire: async (job) => {
    const lock = await (await Bus.open({ path: job.bus })).locks.open('bench')
    return async (count) => {
      for (let i = 0; i < count; i++) (await lock.acquire()).release()
    }
  },
  'proper-lockfile': async (job) => {
    const { default: lockfile } = await import('proper-lockfile')
    const file = path.join(job.bus, 'bench')
    writeFileSync(file, '')
    const options = { retries: { forever: true, minTimeout: 1, maxTimeout: 5 } }
    return async (count) => {
      for (let i = 0; i < count; i++) await (await lockfile.lock(file, options))()
    }
  },
}

export async function locker(job, { handlers, tell }) {
  const take = await WAYS[job.way](job)
  handlers.take = async ({ ms, step }) => {
    const from = performance.now()
    let count = 0
    let until = from
    while (until - from < ms) {
      await take(step)
      count += step
      until = performance.now()
    }
    tell({ type: 'taken', count, ns: ((until - from) * 1e6) / count })
  }
}
