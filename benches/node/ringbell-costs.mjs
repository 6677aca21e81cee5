// What ringbell costs a Node process: heap bytes per `send`, private memory per subscriber, time to attach.

import { readFileSync } from 'node:fs'
import { Bus } from '../../index.js'
import { stamp, template } from '../harness/payload.mjs'
import { turn } from './turn.mjs'

const NAME = 'bench.costs'
const FIRST = 16

function anonymousBytes() {
  return Number(readFileSync('/proc/self/status', 'utf8').match(/RssAnon:\s*(\d+)/)[1]) * 1024
}

/** Publishes as many messages as it is told to. */
export async function publisher(job, { handlers, tell }) {
  const bus = await Bus.open({ path: job.bus })
  const topic = await bus.publisher(NAME, { overflow: 'block', maxSubscribers: 1024, allowDirect: true })
  handlers.publish = async ({ count, size = 256 }) => {
    const message = template(size)
    for (let i = 0; i < count; i++) {
      stamp(message, 0, size, i)
      while (!topic.send(message)) await topic.ready({ bytes: size })
    }
    tell({ type: 'published' })
  }
}

/** Run with --expose-gc and a new space that no collection interrupts. */
export async function sends(job, { handlers, tell }) {
  const bus = await Bus.open({ path: job.bus })
  const topic = await bus.publisher(NAME, { overflow: 'block', maxSubscribers: 4 })
  const message = template(256)
  const send = (count) => {
    let sent = 0
    for (let i = 0; i < count; i++) if (topic.send(message)) sent++
    return sent
  }
  handlers.sends = async () => {
    // Nobody subscribes: a block topic then overwrites its oldest, and every send is taken. The first half
    // still pays for what the compiler allocates once.
    const count = 500_000
    send(count)
    await turn()
    globalThis.gc()
    send(count)
    const before = process.memoryUsage()
    const sent = send(count)
    const after = process.memoryUsage()
    tell({
      type: 'sent',
      refused: count - sent,
      heapBytesPerSend: (after.heapUsed - before.heapUsed) / count,
      externalBytesPerSend: (after.external - before.external) / count,
    })
  }
}

/** Private memory of a process for each of many subscribers that have all received messages. */
export async function crowd(job, { handlers, tell }) {
  const bus = await Bus.open({ path: job.bus })
  const subscribers = []
  const received = []
  const join = async () => {
    const subscriber = await bus.subscriber(NAME)
    await subscriber.attached({ count: 1 })
    const index = subscribers.push(subscriber) - 1
    received.push(0)
    subscriber.listen(() => received[index]++)
  }
  let before
  handlers.join = async ({ count }) => {
    await join()
    globalThis.gc()
    before = anonymousBytes()
    for (let i = 0; i < count; i++) await join()
    tell({ type: 'joined' })
  }
  handlers.weigh = async ({ messages }) => {
    while (received.some((count) => count < messages)) await turn()
    globalThis.gc()
    tell({ type: 'weighed', bytesPerSubscriber: (anonymousBytes() - before) / (subscribers.length - 1) })
  }
}

/** What a stream of owned messages leaves in a process that drops them all, a second after the last one. Nobody calls the collector. */
export async function leftover(job, { handlers, tell }) {
  const bus = await Bus.open({ path: job.bus })
  const subscriber = await bus.subscriber(NAME)
  await subscriber.attached({ count: 1 })
  const receive = async (messages) => {
    for (let left = messages; left > 0; left--) await subscriber.receive()
  }
  handlers.receive = async ({ messages }) => {
    // The first ones pay for code and for the smallest slabs.
    await receive(FIRST)
    const before = anonymousBytes()
    await receive(messages - FIRST)
    const peak = anonymousBytes()
    await new Promise((resolve) => setTimeout(resolve, 1000))
    tell({ type: 'received', peakBytes: peak - before, bytesAfterSecond: anonymousBytes() - before })
  }
}

/** From the wish for a subscriber to its attachment, the bus being open. */
export async function attacher(job, { handlers, tell }) {
  const bus = await Bus.open({ path: job.bus })
  handlers.attach = async ({ count, rung }) => {
    const nanoseconds = []
    for (let i = 0; i < count; i++) {
      const from = performance.now()
      const subscriber = await bus.subscriber(NAME, rung ? { acquire: rung } : {})
      await subscriber.attached({ count: 1 })
      nanoseconds.push((performance.now() - from) * 1e6)
      await subscriber.close()
    }
    tell({ type: 'attached', nanoseconds })
  }
}
