/**
 * What the services of processes carry, for `top`: how many messages and calls so far, and how far each subscriber is behind. Servers
 * and work queues are asked. The counters of topics are in shared memory, so it attaches to them for a moment, as `stats` does.
 */
import type { Service } from '../index.js'
import { attach } from './attaching.js'
import { keyOf, type ProcessNumber } from './process-usage.js'
import type { Session } from './session.js'

/** A subscriber of a topic that a process publishes. */
export interface Behind {
  readonly service: string
  /** The subscriber's process. */
  readonly pid: number
  /** Bytes that it has not read yet. */
  readonly backlog: number
}

export interface Traffic {
  /** Messages that were published, calls that were taken, and messages of work queues that were done. */
  messages: number
  readonly subscribers: Behind[]
}

/** Control services of groups: what managers ask is no traffic. */
const CONTROL = /\.(member|manager)$/

function numberOf({ pid, record }: Service): ProcessNumber {
  const { pidNamespace } = record
  return { pid, pidNamespace: typeof pidNamespace === 'number' ? pidNamespace : undefined }
}

/** By the keys of processes. What does not answer within the timeout counts for nothing. */
export async function trafficOf(
  session: Session,
  processes: ReadonlySet<string>,
  timeout: number,
): Promise<Map<string, Traffic>> {
  const traffic = new Map<string, Traffic>()
  const of = (service: Service): Traffic => {
    const key = keyOf(numberOf(service))
    const known = traffic.get(key) ?? { messages: 0, subscribers: [] }
    traffic.set(key, known)
    return known
  }
  const services = session.bus.services
    .list()
    .filter((one) => processes.has(keyOf(numberOf(one))) && !CONTROL.test(one.name))
  const names = new Set(services.map(({ name }) => name))
  for (const name of names) {
    const some = services.filter((one) => one.name === name)
    const topics = some.filter(({ topic }) => topic !== undefined)
    const [answers, attachments] = await Promise.all([
      session.bus.counters(name, { timeout, signal: session.signal }),
      attach(session, name, topics, timeout),
    ])
    for (const { service, server, queue } of answers)
      if (processes.has(keyOf(numberOf(service))))
        of(service).messages += (server?.requests ?? 0) + (queue?.acknowledged ?? 0)
    for (const topic of topics) {
      const { source } = attachments.get(topic.id) ?? {}
      if (source === undefined) continue
      const known = of(topic)
      known.messages += source.publisher.messages
      for (const { slot, pid: reader, backlog } of source.subscribers)
        if (slot !== source.slot) known.subscribers.push({ service: name, pid: reader, backlog })
    }
  }
  return traffic
}
