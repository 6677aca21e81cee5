// Rival: nats.js alone, between two processes and through the same nats-server: publish and subscribe, request and reply. The sender
// asks for an answer of the server from time to time, because nats.js takes any number of messages into its memory.

import { connect as connectNats } from '@nats-io/transport-node'
import { stamp, template } from '../harness/payload.mjs'
import { turn } from './turn.mjs'

const STREAM = 'bench.stream'
const CALLS = 'bench.calls'
const BURST_BYTES = 256 * 1024

const open = ({ nats }) => connectNats({ servers: nats })

export async function sender(job) {
  const connection = await open(job)
  const burst = Math.max(1, BURST_BYTES / job.size)
  return {
    async pump(flow) {
      while (flow.running) {
        for (let i = 0; i < burst; i++) {
          // It keeps a reference until it writes.
          const message = template(job.size)
          stamp(message, 0, job.size, flow.sequence++)
          connection.publish(STREAM, message)
          flow.sent++
        }
        await connection.flush()
        await turn()
      }
    },
  }
}

export async function receiver(job, check) {
  const connection = await open(job)
  connection.subscribe(STREAM, { callback: (_, { data }) => check.take(data, 0, data.length) })
  await connection.flush()
}

export async function serve(job, answer) {
  const connection = await open(job)
  connection.subscribe(CALLS, { callback: (_, message) => message.respond(answer(message.data)) })
  await connection.flush()
}

export async function connect(job) {
  const connection = await open(job)
  return { call: async (request) => (await connection.request(CALLS, request, { timeout: 20_000 })).data }
}
