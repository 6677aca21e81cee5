/**
 * The connections of one endpoint, as users hold them: made when the core says that one is open, told about by events, and
 * fed with what is no call. Shared by servers and clients, queues and workers.
 */
import type { RingbellError } from '../errors.js'
import { serviceOf } from '../bus/service.js'
import { Connection } from './connection.js'
import type { Endpoint, OpenedNotice } from './endpoint.js'
import type { EndReason, Link } from './link.js'
import type { Speech } from '../codec/payload-codec.js'
import type { EventQueue } from '../wait/event-queue.js'

/** The events of connections, whichever side they are on. */
export interface PeerEvents {
  connected: [connection: Connection<unknown>]
  disconnected: [connection: Connection<unknown>, reason: EndReason]
}

export class Peers {
  /** Connections that there ever were. */
  accepted = 0
  readonly #speech: Speech
  readonly #events: EventQueue<PeerEvents>
  readonly #connections = new Set<Connection<unknown>>()

  constructor(speech: Speech, events: EventQueue<PeerEvents>) {
    this.#speech = speech
    this.#events = events
  }

  get all(): Connection<unknown>[] {
    return [...this.#connections]
  }

  get size(): number {
    return this.#connections.size
  }

  open(endpoint: Endpoint, link: Link, notice: OpenedNotice): Connection<unknown> {
    const { rung, fallbacks = [], record } = notice
    const connection = new Connection<unknown>({
      endpoint,
      link,
      speech: this.#speech,
      rung,
      fallbacks,
      service: record === undefined ? undefined : serviceOf(record),
    })
    link.owner = connection
    this.accepted++
    this.#connections.add(connection)
    this.#events.add('connected', connection)
    return connection
  }

  ended(link: Link, reason: EndReason, error: RingbellError): void {
    const connection = connectionOf(link)
    if (connection === undefined || !this.#connections.delete(connection)) return
    connection.ended(error)
    this.#events.add('disconnected', connection, reason)
  }
}

export function connectionOf(link: Link): Connection<unknown> | undefined {
  return link.owner as Connection<unknown> | undefined
}
