// The processes that call and that answer, whoever carries their calls. A rival gives `serve(job, answer)` and
// `connect(job)`, a client with `call(request, into)`, the promise of the reply's bytes; `into` is a buffer that the
// reply may be received into, and only those who can do that look at it. Every reply is checked by who called.

import { setTimeout as pause } from 'node:timers/promises'
import { Check, stamp, template } from '../harness/payload.mjs'
import { distribution } from '../harness/statistics.mjs'

/** Replies with the request itself, or with `job.reply` bytes that carry the request's sequence number. */
function answering(job) {
  if (!job.reply) return (request) => request
  const reply = template(job.reply)
  return (request) => {
    stamp(reply, 0, job.reply, request[4] | (request[5] << 8) | (request[6] << 16) | (request[7] << 24))
    return reply
  }
}

export async function server(job, { rival, handlers, tell, cpuMicros }) {
  await rival.serve(job, answering(job))
  handlers.cpu = () => tell({ type: 'cpu', micros: cpuMicros() })
}

/** One of many that call at the same time: a reply that belongs to somebody else counts as damaged. */
class Lane {
  #size
  #number
  #sequence = 0

  constructor(job, number) {
    this.request = template(job.size)
    this.request[8] = number
    this.request[9] = number >>> 8
    this.check = new Check(job.reply ?? job.size)
    this.#size = job.size
    this.#number = number & 0xffff
    this.echo = !job.reply
  }

  next() {
    stamp(this.request, 0, this.#size, this.#sequence++)
    return this.request
  }

  take(reply) {
    this.check.take(reply, 0, reply.length)
    if (this.echo && (reply[8] | (reply[9] << 8)) !== this.#number) this.check.bad++
  }
}

function sum(lanes) {
  let [bad, lost] = [0, 0]
  for (const { check } of lanes) {
    bad += check.bad
    lost += check.lost
  }
  return { bad, lost }
}

/** One client: calls one at a time, each timed, or `job.inFlight` at a time. */
export async function caller(job, { rival, handlers, tell, cpuMicros }) {
  const client = await rival.connect(job)
  const lanes = Array.from({ length: job.inFlight ?? 1 }, (_, number) => new Lane(job, number))
  const samples = new Float64Array(4 << 20)
  const into = job.into ? template(job.reply) : undefined

  handlers.trips = async ({ warm, ms }) => {
    const [lane] = lanes
    const cpu = cpuMicros()
    const begun = performance.now() + warm
    let [calls, count, first, now] = [0, 0, 0, 0]
    while (now < begun + ms) {
      const request = lane.next()
      const sentAt = performance.now()
      const reply = await client.call(request, into)
      now = performance.now()
      lane.take(reply)
      calls++
      if (sentAt < begun) continue
      first ||= sentAt
      if (count < samples.length) samples[count++] = (now - sentAt) * 1e6
    }
    const perSecond = count / ((now - first) / 1000)
    tell({
      type: 'called',
      calls,
      cpuMicros: cpuMicros() - cpu,
      perSecond,
      ...distribution(samples, count),
      ...sum(lanes),
    })
  }

  handlers.pipeline = async ({ warm, ms }) => {
    const cpu = cpuMicros()
    let [calls, running] = [0, true]
    const keepCalling = async (lane) => {
      while (running) {
        lane.take(await client.call(lane.next()))
        calls++
      }
    }
    const all = Promise.all(lanes.map(keepCalling))
    await pause(warm)
    const from = { at: performance.now(), calls }
    await pause(ms)
    const perSecond = (calls - from.calls) / ((performance.now() - from.at) / 1000)
    running = false
    await all
    tell({ type: 'called', calls, cpuMicros: cpuMicros() - cpu, perSecond, ...sum(lanes) })
  }
}

/** `job.count` clients in one process, each with a connection of its own; they call at random and count what fails. */
export async function crowd(job, { rival, handlers, tell }) {
  const members = []
  for (let i = 0; i < job.count; i++) {
    const lane = new Lane(job, job.from + i)
    const client = await rival.connect(job)
    lane.take(await client.call(lane.next()))
    members.push({ lane, client })
  }

  handlers.chat = async ({ warm, ms, meanPauseMs }) => {
    const begun = performance.now() + warm
    const nanoseconds = []
    const errors = []
    const chat = async ({ lane, client }) => {
      for (;;) {
        const silence = -Math.log(1 - Math.random()) * meanPauseMs
        // Of a thousand somebody always draws one that is longer than everybody's patience.
        if (performance.now() + silence >= begun + ms) return
        await pause(silence)
        const sentAt = performance.now()
        try {
          lane.take(await client.call(lane.next()))
          if (sentAt >= begun) nanoseconds.push(Math.round((performance.now() - sentAt) * 1e6))
        } catch (error) {
          errors.push(String(error.message ?? error))
        }
      }
    }
    await Promise.all(members.map(chat))
    tell({
      type: 'chatted',
      nanoseconds,
      errors: errors.length,
      error: errors[0],
      ...sum(members.map(({ lane }) => lane)),
    })
  }
}
