// ringbell's states seen from Node. `reader`: `readInto` of a value that a writer in Rust updates. `pinger` and `echoer`: two
// processes that answer each other's changes, as those of topics do (ringbell.mjs).

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import path from 'node:path'
import { Bus } from '../../index.js'
import { answerReads, SIZE } from './reads.mjs'

export async function reader(job, tools) {
  const words = ['writer-peer', '--dir', job.bus, '--rate', String(job.rate)]
  const writer = spawn(path.join(job.programs, 'ringbell-state'), words, { stdio: ['pipe', 'pipe', 'inherit'] })
  await once(writer.stdout, 'data')
  const bus = await Bus.open({ path: job.bus })
  const state = await bus.watchState('bench.state')
  await state.next()
  const buffer = new Uint8Array(SIZE)
  answerReads(tools, () => {
    if (state.readInto(buffer) !== SIZE) throw new Error('a value is too short')
    return buffer
  })
}

const options = (job) => ({ size: job.size, allowDirect: true })

/** Calls back with each value of a state, and fails the benchmark if that fails. */
function follow(state, callback) {
  const run = async () => {
    for await (const value of state) callback(value, 0, value.length)
  }
  run().catch((error) =>
    queueMicrotask(() => {
      throw error
    }),
  )
}

export async function pinger(job, onReply) {
  const bus = await Bus.open({ path: job.address })
  const ping = await bus.state('bench.ping', options(job))
  const pong = await bus.watchState('bench.pong', { wait: job.variant })
  follow(pong, onReply)
  return { send: (value) => ping.set(value) }
}

export async function echoer(job) {
  const bus = await Bus.open({ path: job.address })
  const pong = await bus.state('bench.pong', options(job))
  const ping = await bus.watchState('bench.ping', { wait: job.variant })
  follow(ping, (value) => pong.set(value))
}
