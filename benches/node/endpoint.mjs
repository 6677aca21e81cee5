// The process of one side of a pair. It loads the rival's module, plays one role of it, and does what the
// harness says. What is counted and timed is counted and timed here, the same for every rival.

/* oxlint-disable unicorn/require-post-message-target-origin -- these are Node's ports, not windows */
import process from 'node:process'
import { isMainThread, parentPort, workerData } from 'node:worker_threads'
import { readlinkSync } from 'node:fs'
import { execFileSync } from 'node:child_process'
import { Check, stamp, template } from '../harness/payload.mjs'
import { distribution } from '../harness/statistics.mjs'
import { caller, crowd, server } from './calls.mjs'

const job = isMainThread ? JSON.parse(process.argv[2]) : workerData
const rival = await import(job.module)

// The harness speaks over the process channel; a worker is spoken to over its port.
const channel = isMainThread ? process : parentPort
const tell = isMainThread ? (message) => process.send(message) : (message) => parentPort.postMessage(message)
const cpuMicros = () => {
  const { user, system } = process.cpuUsage()
  return user + system
}

process.on('uncaughtException', (error) => {
  tell({ type: 'error', text: `${job.role} of ${job.title}: ${error.stack}` })
  process.exitCode = 1
  setTimeout(() => process.exit(1), 100)
})

if (!isMainThread) {
  const thread = readlinkSync('/proc/thread-self').split('/').at(-1)
  execFileSync('taskset', ['-pc', String(job.cores[1]), thread], { stdio: 'ignore' })
}

const handlers = { close: () => process.exit(0) }
const peer = job.peerRole && rival.host ? rival.host(job) : undefined
channel.on('message', (message) => {
  if (message instanceof Uint8Array || typeof message !== 'object') return
  if (message.toPeer) peer.tell({ ...message, toPeer: undefined })
  else handlers[message.type]?.(message)
})
peer?.listen((message) => tell({ ...message, fromPeer: true }))
// Without the harness there is nothing left to do.
if (isMainThread) process.on('disconnect', () => process.exit(0))

const roles = {
  server,
  caller,
  crowd,

  async sender() {
    const sender = await rival.sender(job, peer?.link)
    const flow = { running: false, sequence: 0, sent: 0 }
    let pumping
    let from
    handlers.start = ({ warm }) => {
      flow.running = true
      pumping = sender.pump(flow)
      setTimeout(() => (from = { sent: flow.sent, cpu: cpuMicros() }), warm)
    }
    handlers.stop = async () => {
      const messages = flow.sent - from.sent
      const micros = cpuMicros() - from.cpu
      flow.running = false
      await pumping
      tell({ type: 'stopped', messages, cpuMicros: micros, total: flow.sent })
    }
  },

  async receiver() {
    const check = new Check(job.size)
    const receiver = await rival.receiver(job, check, channel)
    const mark = () => ({
      time: process.hrtime.bigint(),
      count: check.count,
      cpu: cpuMicros(),
      tally: receiver?.tally?.() ?? {},
    })
    handlers.arm = ({ warm, ms }) => {
      setTimeout(() => {
        const from = mark()
        setTimeout(() => {
          const to = mark()
          tell({
            type: 'counted',
            messages: to.count - from.count,
            // The times are bigints, which the linter only knows where the rivals' packages are installed.
            // oxlint-disable-next-line typescript/no-unnecessary-type-conversion
            seconds: Number(to.time - from.time) / 1e9,
            cpuMicros: to.cpu - from.cpu,
            tally: Object.fromEntries(
              Object.entries(to.tally).map(([name, value]) => [name, value - from.tally[name]]),
            ),
          })
        }, ms)
      }, warm)
      tell({ type: 'armed' })
    }
    handlers.settle = async ({ total }) => {
      const deadline = performance.now() + (job.lossy ? 500 : 5000)
      while (check.count + check.lost < total && performance.now() < deadline) {
        await new Promise((resolve) => setTimeout(resolve, 5))
      }
      await receiver?.settled?.()
      tell({ type: 'settled', bad: check.bad, lost: check.lost, missing: total - check.count - check.lost })
    }
  },

  async pinger() {
    const samples = new Float64Array(4 << 20)
    const message = template(job.size)
    const check = new Check(job.size)
    let sequence = 0
    let sentAt = 0
    let count = 0
    let begun = 0
    let end = 0
    let cpu = 0
    const next = () => {
      stamp(message, 0, job.size, sequence++)
      sentAt = performance.now()
      pinger.send(message)
    }
    const onReply = (bytes, offset, length) => {
      const now = performance.now()
      check.take(bytes, offset, length)
      if (now >= begun) {
        if (cpu === 0) cpu = cpuMicros()
        if (count < samples.length) samples[count++] = (now - sentAt) * 1e6
        if (now >= end) {
          const cpuMicrosPerTrip = (cpuMicros() - cpu) / count
          tell({ type: 'trips', ...distribution(samples, count), cpuMicrosPerTrip, bad: check.bad, lost: check.lost })
          return
        }
      }
      next()
    }
    const pinger = await rival.pinger(job, onReply, peer?.link)
    handlers.trips = async ({ warm, ms }) => {
      await pinger.connected?.()
      count = 0
      cpu = 0
      begun = performance.now() + warm
      end = begun + ms
      next()
    }
  },

  async echoer() {
    await rival.echoer(job, channel)
  },
}

await (roles[job.role] ?? rival[job.role]).call(rival, job, { rival, handlers, tell, cpuMicros })
tell({ type: 'ready' })
