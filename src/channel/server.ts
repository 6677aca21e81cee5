/**
 * A server: one handler answers the calls of any number of clients, and a connection exchanges messages with one
 * client. Users hold this object; requests in hand are in handling.ts. Like a listening socket, an open server keeps
 * the process alive, unless it is `unref`ed.
 */
import { type MemberPart, type Membership, notPrimary } from '../bus/membership.js'
import type { Service } from '../bus/service.js'
import { EMPTY } from '../codec/bytes.js'
import { type RingbellError, translated } from '../errors.js'
import type { NativeChannel } from '../native.js'
import { tellCounters } from './about.js'
import type { Connection } from './connection.js'
import { type AnyHandler, type CallContext, Handling } from './handling.js'
import { EndpointOwner, type Life, type LifeHost, type LifeParts } from './life.js'
import type { EndReason } from './link.js'
import { connectionOf } from './peers.js'
import type { ServerStats } from './stats.js'
import { ABOUT, KIND } from './wire.js'

/**
 * Answers a request: returns the reply, a promise of it, or for `client.stream()` an async iterable. If it throws, the
 * caller gets a `RemoteError` with its `code`, `message`, `cause` and own fields. Returning nothing is a reply, too.
 */
export type Handler<Q, R, M = Uint8Array, S = M> = (
  request: Q,
  context: CallContext<Connection<M, S>>,
) => R | void | Promise<R | void> | AsyncIterable<R> | Promise<AsyncIterable<R>>

/** The events of a server. There are none after `close()`. */
export interface ServerEvents<M, S = M> {
  /** A client has connected. */
  connected: [connection: Connection<M, S>]
  /** A client has gone: `'closed'`, `'died'` or `'failed'`. */
  disconnected: [connection: Connection<M, S>, reason: EndReason]
  /** Something failed outside of any call: a client broke the protocol, for example. Others are not affected. */
  failed: [error: RingbellError, connection: Connection<M, S> | undefined]
}

/** @internal What a bus passes to the constructor. */
export interface ServerParts extends LifeParts {
  readonly handler: AnyHandler | undefined
  readonly maxRequests: number
  readonly member?: Membership | undefined
}

/** Answers calls under a name; `bus.serve()` makes it. Its connections receive an `M` and send an `S`. */
export class Server<M = Uint8Array, S = M> extends EndpointOwner<ServerEvents<M, S>> {
  readonly #life: Life
  readonly #handling: Handling
  #leaveMember: (() => void) | undefined
  /** @internal Use `bus.serve()`. */
  constructor(parts: ServerParts) {
    super()
    const { member } = parts
    this.#life = this.live('server', parts, this.#host(parts.native))
    this.#handling = new Handling(
      {
        endpoint: this.#life.endpoint,
        payloads: parts.payloads,
        maxRequests: parts.maxRequests,
        leaving: () => this.#life.leaving !== undefined,
        connectionOf,
        ...(member === undefined ? {} : { notPrimary: () => refusalOf(member) }),
      },
      parts.handler,
    )
    if (member !== undefined) this.#leaveMember = member.include(this.#part(parts.native))
    this.#life.endpoint.want()
    this.#life.begin()
  }

  /** This server as others see it. */
  get service(): Service {
    return this.#life.service
  }

  /** The clients that are connected. */
  get connections(): Connection<M, S>[] {
    return this.#life.peers.all as Connection<M, S>[]
  }

  /** Replaces the record's metadata; others see `updated`. */
  update(metadata: Record<string, unknown>): void {
    this.#life.update(metadata)
  }

  /** Counters of this server. @throws {RingbellError} `ERR_RINGBELL_CLOSED`. */
  stats(): ServerStats {
    return {
      connections: this.#life.peers.size,
      accepted: this.#life.peers.accepted,
      ...this.#handling.counters,
      inHand: this.#handling.inHand,
      abandoned: this.#handling.abandoned,
      core: this.#life.coreStats,
    }
  }

  #host(native: NativeChannel): LifeHost {
    return {
      opened: (link) => {
        if (this.#life.leaving !== undefined) link.post(KIND.goodbye, 0, 0, EMPTY, true)
      },
      ended: (link) => this.#handling.places.ended(link),
      unconnected: (_connection, error) => this.#life.events.add('failed', error, undefined),
      request: (link, flags, id, aux, data) => {
        if ((flags & ABOUT) === 0) this.#handling.take(link, flags, id, aux, data)
        else tellCounters(this.#life.endpoint, link, id, this.stats())
      },
      message: (link, data, headers) => connectionOf(link)?.arrived(data, headers),
      credit: (link, amount) => link.addCredit(amount),
      goodbye: () => {},
      refused: (link) => void this.#handling.checkReader(link),
      source: connectionOf,
      leave: () => {
        translated(() => native.withdraw())
        this.#life.sayGoodbye()
      },
      idle: () => this.#handling.idle(),
      end: () => this.#leaveMember?.(),
    }
  }

  #part(native: NativeChannel): MemberPart {
    return {
      announce: (info) => {
        if (this.#life.leaving === undefined) translated(() => native.setGroup(JSON.stringify(info)))
      },
      settled: async () => {
        await this.#handling.idle()
        await this.#life.clear()
      },
      disown: (reason) => this.#handling.disown(reason),
      // A call that is not taken is not lost: its client learns from the end of the connection that it may be made again.
      retire: async () => {
        await this.#life.clear()
        this.closeNow()
      },
    }
  }
}

function refusalOf(member: Membership): RingbellError | undefined {
  return member.role === 'primary' ? undefined : notPrimary(member)
}
