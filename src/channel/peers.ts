/**
 * The connections of one endpoint, as users hold them. They are made when the core reports them open, and events report
 * them to the user. Servers, clients, queues and workers share this.
 */
import { serviceOf } from '../bus/service.js'
import type { PayloadCodec } from '../codec/payload-codec.js'
import type { RingbellError } from '../errors.js'
import type { EventQueue } from '../wait/event-queue.js'
import { Connection } from './connection.js'
import type { Endpoint, OpenedNotice } from './endpoint.js'
import type { EndReason, Link } from './link.js'

/** The events of connections, the same on both sides. */
export interface PeerEvents {
  connected: [connection: Connection<unknown>]
  disconnected: [connection: Connection<unknown>, reason: EndReason]
}

export class Peers {
  /** The number of connections since the beginning. */
  accepted = 0
  readonly #payloads: PayloadCodec
  readonly #events: EventQueue<PeerEvents>
  readonly #connections = new Set<Connection<unknown>>()

  constructor(payloads: PayloadCodec, events: EventQueue<PeerEvents>) {
    this.#payloads = payloads
    this.#events = events
  }

  get all(): Connection<unknown>[] {
    return [...this.#connections]
  }

  get size(): number {
    return this.#connections.size
  }

  /** Makes the connection of a link. It is a peer once it joins. */
  open(endpoint: Endpoint, link: Link, notice: OpenedNotice): void {
    const { rung, fallbacks = [], record } = notice
    const connection = new Connection<unknown>({
      endpoint,
      link,
      payloads: this.#payloads,
      rung,
      fallbacks,
      service: record === undefined ? undefined : serviceOf(record),
    })
    link.owner = connection
  }

  /** Its user hears of it. Joining again changes nothing. */
  join(link: Link): void {
    const connection = connectionOf(link)
    if (connection === undefined || this.#connections.has(connection)) return
    this.accepted++
    this.#connections.add(connection)
    this.#events.add('connected', connection)
  }

  ended(link: Link, reason: EndReason, error: RingbellError): void {
    const connection = connectionOf(link)
    connection?.ended(error)
    if (connection !== undefined && this.#connections.delete(connection))
      this.#events.add('disconnected', connection, reason)
  }
}

export function connectionOf(link: Link): Connection<unknown> | undefined {
  return link.owner as Connection<unknown> | undefined
}
