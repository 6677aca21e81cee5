// Rival: worker_threads and postMessage (structured clone). One process, so its CPU time is that of both
// sides. Nothing limits what is queued, so the receiver acknowledges every quarter of the allowance.

/* oxlint-disable unicorn/require-post-message-target-origin -- these are Node's ports, not windows */
import { Worker } from 'node:worker_threads'
import { stamp, template } from '../harness/payload.mjs'
import { turn } from './turn.mjs'

const allowance = (job) => Math.max(8, Math.min(4096, Math.floor((8 << 20) / job.size)))

export function host(job) {
  const { peerRole, ...rest } = job
  const worker = new Worker(new URL('endpoint.mjs', import.meta.url), { workerData: { ...rest, role: peerRole } })
  worker.on('error', (error) => {
    throw error
  })
  return {
    link: worker,
    tell: (message) => worker.postMessage(message),
    listen: (fn) =>
      worker.on('message', (message) => typeof message !== 'object' || message instanceof Uint8Array || fn(message)),
  }
}

const onBytes = (link, fn) => link.on('message', (message) => message instanceof Uint8Array && fn(message))

export async function sender(job, worker) {
  const message = template(job.size)
  let allowed = allowance(job)
  let wake
  worker.on('message', (count) => {
    if (typeof count !== 'number') return
    allowed += count
    wake?.()
  })
  return {
    async pump(flow) {
      while (flow.running) {
        for (let i = 0; i < 512 && allowed > 0; i++, allowed--) {
          stamp(message, 0, job.size, flow.sequence++)
          worker.postMessage(message)
          flow.sent++
        }
        if (allowed > 0) await turn()
        else await new Promise((resolve) => (wake = resolve))
      }
    },
  }
}

export async function receiver(job, check, port) {
  const step = allowance(job) >> 2
  let since = 0
  onBytes(port, (message) => {
    check.take(message, 0, message.length)
    if (++since === step) {
      since = 0
      port.postMessage(step)
    }
  })
}

export async function pinger(job, onReply, worker) {
  onBytes(worker, (message) => onReply(message, 0, message.length))
  return { send: (message) => worker.postMessage(message) }
}

export async function echoer(job, port) {
  onBytes(port, (message) => port.postMessage(message))
}
