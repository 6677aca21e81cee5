/**
 * What the services of processes carry, for `top`: how many messages and calls so far, and how far each subscriber is behind. Servers
 * and work queues are asked. The counters of topics are in shared memory, so it attaches to them for a moment, as `stats` does.
 */
import { attach } from './attaching.js'
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

/** By process. What does not answer within the timeout counts for nothing. */
export async function trafficOf(
  session: Session,
  pids: ReadonlySet<number>,
  timeout: number,
): Promise<Map<number, Traffic>> {
  const traffic = new Map<number, Traffic>()
  const of = (pid: number): Traffic => {
    const known = traffic.get(pid) ?? { messages: 0, subscribers: [] }
    traffic.set(pid, known)
    return known
  }
  const services = session.bus.services.list().filter(({ pid, name }) => pids.has(pid) && !CONTROL.test(name))
  const names = new Set(services.map(({ name }) => name))
  for (const name of names) {
    const some = services.filter((one) => one.name === name)
    const topics = some.filter(({ topic }) => topic !== undefined)
    const [answers, attachments] = await Promise.all([
      session.bus.counters(name, { timeout, signal: session.signal }),
      attach(session, name, topics, timeout),
    ])
    for (const { service, server, queue } of answers)
      if (pids.has(service.pid)) of(service.pid).messages += (server?.requests ?? 0) + (queue?.acknowledged ?? 0)
    for (const { id, pid } of topics) {
      const { source } = attachments.get(id) ?? {}
      if (source === undefined) continue
      const known = of(pid)
      known.messages += source.publisher.messages
      for (const { slot, pid: reader, backlog } of source.subscribers)
        if (slot !== source.slot) known.subscribers.push({ service: name, pid: reader, backlog })
    }
  }
  return traffic
}
