/**
 * The time in which a bridge holds its claim and has a connection to NATS: what it offers, what others offer, and what is under way in
 * both directions. Everything of another bus ends with its lease; everything ends with the term.
 */
import { Buffer } from 'node:buffer'
import { randomBytes } from 'node:crypto'
import { hostname } from 'node:os'
import type { Bus } from '../index.js'
import { inSteps } from '../closing.js'
import { RingbellError } from '../errors.js'
import { Calls } from './calls.js'
import type { BridgeCounters } from './counters.js'
import { Exports } from './exports.js'
import { Mirrors } from './mirrors.js'
import { Nats } from './nats.js'
import type { BridgeOptions, BridgePolicy } from './options.js'
import { type Peer, Peers } from './peers.js'
import { Serving } from './serving.js'
import { Streams } from './streams.js'
import { type Beat, type Entry, HEAD_BYTES, jsonOf, type Packet, PACKET, packet, withJson, wishOf } from './wire.js'

export interface TermHost {
  joined(peer: Peer): void
  left(peer: Peer, why: string): void
  disconnected(): void
  reconnected(): void
  failed(error: unknown): void
}

/** Beats in the time of a lease. */
const BEATS = 3
/** The most bytes of a part of a list. */
const PART = 256 * 1024
/** The name of this machine, as others take it. */
const HOST = hostname().replace(/[^A-Za-z0-9._-]/g, '-') || 'unknown'
const DISCONNECTED = 'the connection to NATS was lost.'

export class Term {
  readonly id = randomBytes(8)
  readonly #host: TermHost
  readonly #policy: BridgePolicy
  readonly #counters: BridgeCounters
  readonly #peers: Peers
  readonly #exports: Exports
  readonly #mirrors: Mirrors
  readonly #calls: Calls
  readonly #serving: Serving
  readonly #streams: Streams
  /** Publishers that have ended, and whose last messages are under way. */
  readonly #lingering = new Map<string, Entry>()
  /** Buses that are to be told what is wanted of them. */
  readonly #wanting = new Set<string>()
  #nats: Nats | undefined
  #timer: NodeJS.Timeout | undefined
  #offered: Entry[] = []
  #revision = 1
  #connection = 1
  #closed = false

  /** Rejects with `ERR_RINGBELL_NATS`. */
  static async begin(
    bus: Bus,
    options: BridgeOptions,
    policy: BridgePolicy,
    counters: BridgeCounters,
    host: TermHost,
  ): Promise<Term> {
    const term = new Term(bus, policy, counters, host)
    try {
      await term.#connect(options)
    } catch (error) {
      await term.close()
      throw error
    }
    return term
  }

  private constructor(bus: Bus, policy: BridgePolicy, counters: BridgeCounters, host: TermHost) {
    this.#host = host
    this.#policy = policy
    this.#counters = counters
    const common = {
      id: this.id,
      largest: () => this.#nats?.largest ?? 0,
      send: (to: string, packed: Buffer) => this.#nats?.send(to, packed),
      oversized: (what: string, bytes: number) => this.#oversized(what, bytes),
      wrong: () => void counters.wrong++,
      failed: (error: unknown) => host.failed(error),
    }
    const offered = (id: string) => this.#exports.get(id)
    this.#calls = new Calls({
      ...common,
      connected: () => this.#nats?.connected === true,
      ask: (to, packed, call) => this.#nats?.ask(to, packed, call),
      made: () => void counters.made++,
    })
    this.#serving = new Serving(bus, {
      ...common,
      offered,
      knows: (from) => this.#peers.has(from),
      served: () => void counters.served++,
    })
    this.#streams = new Streams(bus, policy.window, {
      ...common,
      offered,
      sent: (messages) => void (counters.sent += messages),
      quiet: () => this.#changed(),
    })
    this.#mirrors = new Mirrors(bus, policy, {
      ...common,
      calls: this.#calls,
      isHere: (id) => this.#exports.isHere(id),
      wants: (to) => this.#wants(to),
      taken: (to, stream, number) => common.send(to, packet(PACKET.taken, this.id, 0, stream, number)),
      received: (messages) => void (counters.received += messages),
      missed: (messages) => void (counters.missed += messages),
      unopened: (of) => this.#peers.forget(of),
    })
    this.#peers = new Peers({
      ...common,
      joined: (peer) => this.#joined(peer),
      left: (peer, why) => this.#left(peer, why),
      reconnected: ({ bus: from }) => {
        this.#calls.lost(DISCONNECTED, from)
        this.#serving.lost(from)
      },
      ask: (to) => common.send(to, packet(PACKET.ask, this.id, 0)),
      offered: (peer, entries) => this.#mirrors.offered(peer, entries),
    })
    this.#exports = new Exports(bus, policy, () => this.#changed())
    this.#offered = this.#exports.entries()
  }

  get peers(): (Peer & { instances: number })[] {
    return this.#peers.all.map((peer) => ({ ...peer, instances: this.#mirrors.of(peer.bus).length }))
  }

  get exported(): number {
    return this.#exports.size
  }

  get imported(): number {
    return this.#mirrors.size
  }

  /** The address of the NATS server. */
  get server(): string | undefined {
    return this.#nats?.server
  }

  /** Resolves with the reason when NATS is given up. */
  async ended(): Promise<RingbellError> {
    return this.#nats?.closed() ?? new RingbellError('ERR_RINGBELL_CLOSED', 'The bridge is closed.')
  }

  /** Says farewell, and withdraws what others offer. */
  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    clearInterval(this.#timer)
    this.#nats?.sendToAll(packet(PACKET.bye, this.id, 0))
    inSteps(
      () => this.#exports.close(),
      () => this.#streams.close(),
      () => this.#peers.close(),
      () => this.#serving.close(),
    )
    await this.#mirrors.close()
    await this.#nats?.close()
  }

  async #connect(options: BridgeOptions): Promise<void> {
    this.#nats = await Nats.connect(this.id, this.#policy.network, options, {
      received: (one) => this.#received(one),
      unheard: (call) => this.#calls.unheard(call),
      wrong: () => void this.#counters.wrong++,
      down: () => {
        this.#calls.lost(DISCONNECTED)
        this.#host.disconnected()
      },
      up: () => {
        this.#connection++
        this.#serving.lost()
        this.#beat()
        this.#host.reconnected()
      },
      refused: (error) => this.#host.failed(error),
    })
    this.#timer = setInterval(() => this.#beat(), this.#policy.lease / BEATS)
    this.#sayBeat()
  }

  #beat(): void {
    if (this.#nats?.connected !== true) return
    this.#sayBeat()
    this.#streams.remind()
    for (const { bus } of this.#peers.all) if (this.#mirrors.wishes(bus).length > 0) this.#sendWishes(bus)
  }

  #sayBeat(to?: string): void {
    const { lease } = this.#policy
    const beat: Beat = { host: HOST, lease, revision: this.#revision, connection: this.#connection }
    const packed = withJson(PACKET.beat, this.id, beat)
    if (to === undefined) this.#nats?.sendToAll(packed)
    else this.#nats?.send(to, packed)
  }

  #received(one: Packet): void {
    if (this.#closed) return
    const { type, from, a, b } = one
    switch (type) {
      case PACKET.beat:
        return this.#peers.beat(one)
      case PACKET.bye:
        return this.#peers.bye(from)
      case PACKET.ask:
        return this.#sendList(from)
      case PACKET.list:
        return this.#peers.list(one)
      case PACKET.want:
        return this.#wanted(one)
      case PACKET.data:
        // A stream that is wanted no more is held as long as the other side does not know that.
        if (!this.#mirrors.data(one)) this.#wants(from)
        return
      case PACKET.taken:
        return this.#streams.taken(from, a, b)
      case PACKET.call:
        return this.#serving.call(one)
      case PACKET.cancel:
        return this.#serving.cancel(one)
      case PACKET.credit:
        return this.#serving.credit(one)
      case PACKET.reply:
      case PACKET.error:
      case PACKET.chunk:
      case PACKET.end:
        return this.#calls.answer(one)
      default:
        this.#counters.wrong++
    }
  }

  #joined(peer: Peer): void {
    this.#sayBeat(peer.bus)
    this.#host.joined(peer)
  }

  #left(peer: Peer, why: string): void {
    this.#calls.lost(why, peer.bus)
    this.#serving.lost(peer.bus)
    this.#streams.lost(peer.bus)
    this.#mirrors.lost(peer.bus)
    this.#host.left(peer, why)
  }

  /** Another list is offered now, perhaps. */
  #changed(): void {
    if (this.#closed) return
    const now = this.#exports.entries()
    const ids = new Set(now.map(({ id }) => id))
    for (const entry of this.#offered)
      if (!ids.has(entry.id) && entry.kind === 'topic' && this.#streams.isBusy(entry.id))
        this.#lingering.set(entry.id, entry)
    for (const id of this.#lingering.keys()) if (ids.has(id) || !this.#streams.isBusy(id)) this.#lingering.delete(id)
    const offered = [...now, ...this.#lingering.values()]
    if (JSON.stringify(offered) === JSON.stringify(this.#offered)) return
    this.#offered = offered
    this.#revision++
    this.#serving.tidy()
    this.#sayBeat()
  }

  #sendList(to: string): void {
    const most = Math.min(PART, (this.#nats?.largest ?? 0) - HEAD_BYTES)
    const parts: Entry[][] = [[]]
    let size = 2
    for (const entry of this.#offered) {
      const bytes = Buffer.byteLength(JSON.stringify(entry)) + 1
      if (bytes + 2 > most) {
        this.#oversized(`record of ${entry.name}`, bytes)
        continue
      }
      if (size + bytes > most) {
        parts.push([])
        size = 2
      }
      parts.at(-1)?.push(entry)
      size += bytes
    }
    for (const [number, part] of parts.entries())
      this.#nats?.send(to, withJson(PACKET.list, this.id, part, this.#revision, number * 0x10000 + parts.length))
  }

  #wanted(one: Packet): void {
    // Without its lease nobody would notice that it is gone. It says again what it wants.
    if (!this.#peers.has(one.from)) return
    let wishes: unknown
    try {
      wishes = jsonOf(one)
    } catch {
      wishes = undefined
    }
    if (!Array.isArray(wishes)) this.#counters.wrong++
    else
      this.#streams.wanted(
        one.from,
        wishes.flatMap((wish) => wishOf(wish) ?? []),
      )
  }

  /** Soon, because several wishes come together. */
  #wants(to: string): void {
    if (this.#wanting.size === 0)
      setImmediate(() => {
        for (const bus of this.#wanting) this.#sendWishes(bus)
        this.#wanting.clear()
      })
    this.#wanting.add(to)
  }

  #sendWishes(to: string): void {
    if (!this.#closed) this.#nats?.send(to, withJson(PACKET.want, this.id, this.#mirrors.wishes(to)))
  }

  #oversized(what: string, bytes: number): void {
    if (this.#counters.oversized++ > 0) return
    const most = this.#nats?.largest ?? 0
    const told = `A ${what} of ${bytes} bytes is larger than the ${most} bytes that NATS takes, and was left out. Raise max_payload of the NATS server. Further ones are only counted.`
    this.#host.failed(new RingbellError('ERR_RINGBELL_MESSAGE_TOO_LARGE', told))
  }
}
