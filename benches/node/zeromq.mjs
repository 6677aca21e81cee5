// Rival: zeromq.js over ipc://, PUSH/PULL and PUB/SUB (which must not drop, so that every message counts).
// zeromq.js keeps a reference to a large buffer until it is written, so the sender stamps a pool of filled
// buffers, larger than all that can be queued, instead of copying into fresh ones: that favours the rival.

import { Pair, Pull, Push, Subscriber, XPublisher } from 'zeromq'
import { stamp, template } from '../harness/payload.mjs'
import { turn } from './turn.mjs'

const at = (job, name) => `ipc://${job.address}/${name}.sock`
const highWaterMark = (job) => (job.size >= 1 << 20 ? 16 : job.size >= 1 << 16 ? 128 : 1000)

export async function sender(job) {
  const publishes = job.variant === 'pub/sub'
  const limit = highWaterMark(job)
  const socket = publishes
    ? new XPublisher({ sendHighWaterMark: limit, noDrop: true, linger: 0 })
    : new Push({ sendHighWaterMark: limit, linger: 0 })
  await socket.bind(at(job, 'data'))
  // What a subscriber sends first is its subscription: before it, PUB would drop.
  const subscribed = publishes ? socket.receive() : undefined
  const pool = Array.from({ length: 2 * limit + 64 }, () => Buffer.from(template(job.size)))
  let slot = 0
  // Without `noDrop` PUB would lose messages; with it a full queue is EAGAIN, which zeromq.js hands on.
  const deliver = publishes
    ? async (message) => {
        for (;;) {
          try {
            return await socket.send(message)
          } catch (error) {
            if (error.code !== 'EAGAIN') throw error
            await turn()
          }
        }
      }
    : (message) => socket.send(message)
  return {
    async pump(flow) {
      await subscribed
      while (flow.running) {
        for (let i = 0; i < 512; i++) {
          const message = pool[slot]
          slot = slot + 1 === pool.length ? 0 : slot + 1
          stamp(message, 0, job.size, flow.sequence++)
          await deliver(message)
          flow.sent++
        }
        await turn()
      }
    },
  }
}

export async function receiver(job, check) {
  const limit = highWaterMark(job)
  const socket =
    job.variant === 'pub/sub'
      ? new Subscriber({ receiveHighWaterMark: limit })
      : new Pull({ receiveHighWaterMark: limit })
  socket.connect(at(job, 'data'))
  if (job.variant === 'pub/sub') socket.subscribe()
  const run = async () => {
    for await (const [message] of socket) check.take(message, 0, message.length)
  }
  void run()
}

export async function pinger(job, onReply) {
  const socket = new Pair({ linger: 0 })
  await socket.bind(at(job, 'pair'))
  const run = async () => {
    for await (const [message] of socket) onReply(message, 0, message.length)
  }
  void run()
  return { send: (message) => socket.send(message) }
}

export async function echoer(job) {
  const socket = new Pair({ linger: 0 })
  socket.connect(at(job, 'pair'))
  const run = async () => {
    for await (const [message] of socket) await socket.send(message)
  }
  void run()
}
