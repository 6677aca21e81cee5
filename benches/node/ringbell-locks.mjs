// Locks seen from Node: a process without rivals, and several that want the same one. ringbell's, in each way that a program has,
// and proper-lockfile, which makes a directory beside a file. A process opens all of a library's ways, and takes the lock in
// the one that it is asked for. Each way takes and gives back as often as asked.

import { writeFileSync } from 'node:fs'
import path from 'node:path'
import { Bus } from '../../index.js'

async function ringbell(job) {
  const bus = await Bus.open({ path: job.bus })
  const lock = await bus.locks.open('bench')
  const mutex = await bus.shardedMutex('bench.keys')
  const nothing = () => {}
  return {
    tryAcquire(count) {
      for (let i = 0; i < count; i++) lock.tryAcquire().release()
    },
    async acquire(count) {
      for (let i = 0; i < count; i++) (await lock.acquire()).release()
    },
    async 'locks.acquire'(count) {
      for (let i = 0; i < count; i++) (await bus.locks.acquire('bench')).release()
    },
    async 'locks.request'(count) {
      for (let i = 0; i < count; i++) await bus.locks.request('bench', nothing)
    },
    async withKey(count) {
      for (let i = 0; i < count; i++) await mutex.withKey('key', nothing)
    },
  }
}

async function properLockfile(job) {
  const { default: lockfile } = await import('proper-lockfile')
  const file = path.join(job.bus, 'bench')
  writeFileSync(file, '')
  const options = { retries: { forever: true, minTimeout: 1, maxTimeout: 5 } }
  return {
    async 'proper-lockfile'(count) {
      for (let i = 0; i < count; i++) await (await lockfile.lock(file, options))()
    },
  }
}

export async function locker(job, { handlers, tell }) {
  const ways = { ...(await ringbell(job)), ...(job.rival && (await properLockfile(job))) }
  handlers.take = async ({ way, ms, step }) => {
    const take = ways[way]
    const from = performance.now()
    let count = 0
    let until = from
    while (until - from < ms) {
      await take(step)
      count += step
      until = performance.now()
    }
    tell({ type: 'taken', count, ns: ((until - from) * 1e6) / count, rate: (count * 1000) / (until - from) })
  }
}
