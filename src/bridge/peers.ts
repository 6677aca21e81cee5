/**
 * The bridges of other buses, as this one hears of them. Each says that it lives, for how long, and which revision of its list it has. A
 * list that is not known is asked for. Who is not heard of within its own lease is gone.
 */
import { type Beat, beatOf, type Entry, entryOf, jsonOf, type Packet } from './wire.js'

/** Another bridge. */
export interface Peer {
  /** Its bus, for as long as this run of the bridge lasts. */
  readonly bus: string
  /** The host name of its machine. */
  readonly host: string
}

export interface PeersHost {
  joined(peer: Peer): void
  left(peer: Peer, why: string): void
  /** It has connected again, and what was under way to it or from it may be lost. */
  reconnected(peer: Peer): void
  /** Its list is not known. */
  ask(bus: string): void
  /** It offers just this. */
  offered(peer: Peer, entries: readonly Entry[]): void
  wrong(): void
}

/** What is taken from others at most, because they fill the memory of this process. */
const MOST_PEERS = 1000
const MOST_ENTRIES = 10_000
const MOST_LIST = 32 * 2 ** 20

interface Known extends Peer {
  beat: Beat
  heard: number
  timer: NodeJS.Timeout
  /** The revision of the list that is known; 0: none. */
  revision: number
  /** The parts of the next one that have come. */
  parts: Parts
}

interface Parts {
  readonly revision: number
  readonly entries: Entry[]
  count: number
  bytes: number
}

export class Peers {
  readonly #host: PeersHost
  readonly #known = new Map<string, Known>()

  constructor(host: PeersHost) {
    this.#host = host
  }

  get all(): Peer[] {
    return [...this.#known.values()].map(({ bus, host }) => ({ bus, host }))
  }

  has(bus: string): boolean {
    return this.#known.has(bus)
  }

  beat(packet: Packet): void {
    const beat = checked(() => beatOf(jsonOf(packet)))
    if (beat === undefined) return this.#host.wrong()
    if (!this.#known.has(packet.from) && this.#known.size >= MOST_PEERS) return this.#host.wrong()
    const peer = this.#known.get(packet.from) ?? this.#join(packet.from, beat)
    const { connection } = peer.beat
    peer.beat = beat
    peer.heard = performance.now()
    if (connection !== beat.connection) this.#host.reconnected(peer)
    if (peer.revision !== beat.revision) this.#host.ask(peer.bus)
  }

  list(packet: Packet): void {
    const peer = this.#known.get(packet.from)
    // Its beat comes soon, and then it is asked.
    if (peer === undefined) return
    const values = checked(() => jsonOf(packet))
    if (!Array.isArray(values)) return this.#host.wrong()
    const [part, parts] = [packet.b >>> 16, packet.b & 0xffff]
    if (part === 0) peer.parts = { revision: packet.a, entries: [], count: 0, bytes: 0 }
    const { parts: got } = peer
    if (got.revision !== packet.a || got.count !== part) return
    got.count++
    got.bytes += packet.body.byteLength
    if (got.entries.length + values.length > MOST_ENTRIES || got.bytes > MOST_LIST) {
      peer.parts = { revision: 0, entries: [], count: 0, bytes: 0 }
      return this.#host.wrong()
    }
    for (const value of values) {
      const entry = entryOf(value)
      if (entry === undefined) this.#host.wrong()
      else got.entries.push(entry)
    }
    if (got.count < parts) return
    peer.revision = packet.a
    this.#host.offered(peer, got.entries)
  }

  /** Its list is asked for at its next beat, as if it were not known. */
  forget(bus: string): void {
    const peer = this.#known.get(bus)
    if (peer !== undefined) peer.revision = 0
  }

  bye(bus: string): void {
    this.#leave(bus, 'its bridge was closed.')
  }

  /** All are gone, because this bridge ends. */
  close(): void {
    for (const bus of this.#known.keys()) this.#leave(bus, 'this bridge was closed.')
  }

  #join(bus: string, beat: Beat): Known {
    const peer: Known = {
      bus,
      host: beat.host,
      beat,
      heard: 0,
      timer: setTimeout(() => this.#check(peer), beat.lease),
      revision: 0,
      parts: { revision: 0, entries: [], count: 0, bytes: 0 },
    }
    this.#known.set(bus, peer)
    this.#host.joined(peer)
    return peer
  }

  /** Its lease may be over. If this process was stopped, its beats may have come and were not read yet. */
  #check(peer: Known): void {
    const late = performance.now()
    setImmediate(() =>
      setImmediate(() => {
        if (this.#known.get(peer.bus) !== peer) return
        const left = peer.beat.lease - (late - peer.heard)
        if (left <= 0) this.#leave(peer.bus, 'it was not heard of within its lease.')
        else peer.timer = setTimeout(() => this.#check(peer), left)
      }),
    )
  }

  #leave(bus: string, why: string): void {
    const peer = this.#known.get(bus)
    if (peer === undefined) return
    clearTimeout(peer.timer)
    this.#known.delete(bus)
    this.#host.left(peer, why)
  }
}

function checked<V>(read: () => V): V | undefined {
  try {
    return read()
  } catch {
    return undefined
  }
}
