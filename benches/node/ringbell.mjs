// ringbell, Node to Node. A variant says how is sent and how is received: `send`, `headers` (64 bytes of headers beside each
// message, always the same), `traced` (others for each message) or `batch` (the batch writer),
// then `for-await` (a message at a time), `owned` (batches), `listen` (a callback a message), `borrowed`, `lease`.
// `stream+` before both forces the stream rung: the same bytes over a Unix socket, for where memory cannot be shared.
// Round trips: `adaptive`, `spin` or `sleep` waiting, by callback, or `for-await`.

import { Bus } from '../../index.js'
import { stamp, template } from '../harness/payload.mjs'
import { turn } from './turn.mjs'

const BATCH_BYTES = 65536
/** What is sent between two turns of the event loop. */
const TURN_BYTES = 1 << 20

const open = (job) => Bus.open({ path: job.address })
const parts = ({ variant }) => {
  const [receive, send, rung] = variant.split('+').reverse()
  return { receive, send, acquire: rung ?? 'auto' }
}
const publisherOptions = (job) => ({ overflow: 'block', capacity: job.capacity, maxSubscribers: 4, allowDirect: true })

export async function sender(job) {
  const bus = await open(job)
  const publisher = await bus.publisher('bench.stream', publisherOptions(job))
  const pump = { batch: pumpBatches, headers: pumpHeaders, traced: pumpHeaders }[parts(job).send] ?? pumpEach
  return { pump: (flow) => pump(job, publisher, flow) }
}

async function pumpEach(job, publisher, flow) {
  const message = template(job.size)
  const burst = Math.max(1, TURN_BYTES / job.size)
  while (flow.running) {
    for (let i = 0; i < burst; i++) {
      stamp(message, 0, job.size, flow.sequence)
      if (!publisher.send(message)) {
        await publisher.ready()
        continue
      }
      flow.sequence++
      flow.sent++
    }
    await turn()
  }
}

/** 64 bytes or so: 4, the name, and a `traceparent` of nearly the usual length. */
async function pumpHeaders(job, publisher, flow) {
  const fresh = parts(job).send === 'traced'
  const message = template(job.size)
  const burst = Math.max(1, TURN_BYTES / job.size)
  const spans = Array.from({ length: 1024 }, (_, n) => n.toString(16).padStart(14, '0'))
  let next = 0
  while (flow.running) {
    for (let i = 0; i < burst; i++) {
      stamp(message, 0, job.size, flow.sequence)
      if (fresh) next = (next + 1) & 1023
      const traceparent = `00-4bf92f3577b34da6a3ce929d0e0e4736-${spans[next]}`
      if (!publisher.send(message, { headers: { traceparent } })) {
        await publisher.ready()
        continue
      }
      flow.sequence++
      flow.sent++
    }
    await turn()
  }
}

async function pumpBatches(job, publisher, flow) {
  const message = template(job.size)
  const perBatch = Math.max(1, BATCH_BYTES / job.size)
  const batch = publisher.batch()
  let sinceTurn = 0
  while (flow.running) {
    let pushed = 0
    while (pushed < perBatch) {
      stamp(message, 0, job.size, flow.sequence)
      if (!batch.push(message)) break
      flow.sequence++
      pushed++
    }
    batch.commit()
    if (pushed < perBatch) await publisher.ready({ bytes: job.size })
    flow.sent += pushed
    sinceTurn += pushed * job.size
    if (sinceTurn >= TURN_BYTES) {
      sinceTurn = 0
      await turn()
    }
  }
}

const receivers = {
  async 'for-await'(subscriber, check) {
    for await (const { data } of subscriber) check.take(data, 0, data.length)
  },
  async owned(subscriber, check) {
    for await (const batch of subscriber.batches({ lifetime: 'owned' })) {
      for (let i = 0; i < batch.length; i++) {
        const data = batch.data(i)
        check.take(data, 0, data.length)
      }
    }
  },
  async listen(subscriber, check) {
    await subscriber.listen(({ data }) => check.take(data, 0, data.length)).finished
  },
  borrowed: (subscriber, check) => walk(subscriber, check, 'borrowed'),
  lease: (subscriber, check) => walk(subscriber, check, 'lease'),
}

/** A batch without a view per message: its bytes, offsets and lengths. */
async function walk(subscriber, check, lifetime) {
  for await (const batch of subscriber.batches({ lifetime })) {
    const { bytes, length } = batch
    for (let i = 0; i < length; i++) check.take(bytes, batch.offset(i), batch.byteLength(i))
    batch.release()
  }
}

export async function receiver(job, check) {
  const bus = await open(job)
  const { receive, acquire } = parts(job)
  const subscriber = await bus.subscriber('bench.stream', { acquire, ...job.subscriber })
  await subscriber.attached({ count: 1 })
  crash(receivers[receive](subscriber, check))
  return {
    tally() {
      const { rings, acks } = subscriber.stats()
      return { doorbells: rings, flushes: acks.flushed }
    },
  }
}

/** A loop that nobody awaits must still be able to fail the benchmark. */
function crash(promise) {
  promise.catch((error) =>
    queueMicrotask(() => {
      throw error
    }),
  )
}

async function answering(job, subscriber, answer) {
  if (job.variant.endsWith('for-await')) {
    for await (const { data } of subscriber) answer(data, 0, data.length)
  } else {
    await subscriber.listen(({ data }) => answer(data, 0, data.length)).finished
  }
}

const waiting = (job) => ({ wait: job.variant.split('+')[0] })

export async function pinger(job, onReply) {
  const bus = await open(job)
  const publisher = await bus.publisher('bench.ping', { ...publisherOptions(job), ...waiting(job) })
  const subscriber = await bus.subscriber('bench.pong', waiting(job))
  crash(answering(job, subscriber, onReply))
  return {
    connected: () => subscriber.attached({ count: 1 }),
    send: (message) => publisher.send(message),
  }
}

export async function echoer(job) {
  const bus = await open(job)
  const publisher = await bus.publisher('bench.pong', { ...publisherOptions(job), ...waiting(job) })
  const subscriber = await bus.subscriber('bench.ping', waiting(job))
  await subscriber.attached({ count: 1 })
  crash(answering(job, subscriber, (message) => publisher.send(message)))
}
