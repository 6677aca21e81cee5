/**
 * Instances of other buses as they appear on this one. For each there is a publisher or a server here, with a record like any other, and
 * `origin` in its metadata. A mirror lives as long as the bridge that offers its instance; another bridge of that bus may take over.
 */
import type { Bus, Publisher, Server } from '../index.js'
import { debug } from '../diagnostics.js'
import type { Calls } from './calls.js'
import { Incoming, type IncomingHost } from './incoming.js'
import type { BridgePolicy } from './options.js'
import { asBytes } from './serving.js'
import type { Entry, Packet, Wish } from './wire.js'

/** Another bridge, as far as mirrors know it. */
export interface Owner {
  readonly bus: string
  readonly host: string
}

export interface MirrorsHost {
  readonly calls: Calls
  /** Whether the instance is on this bus itself. */
  isHere(id: string): boolean
  /** The streams that are wanted of this bus are others now. */
  wants(bus: string): void
  taken(bus: string, stream: number, number: number): void
  received(messages: number): void
  missed(messages: number): void
  /** An instance of this bus could not be shown. Its list is wanted again. */
  unopened(bus: string): void
  oversized(what: string, bytes: number): void
  wrong(): void
  failed(error: unknown): void
}

interface Mirror {
  entry: Entry
  owner: Owner
  publisher?: Publisher
  incoming?: Incoming
  server?: Server
  /** The metadata in its record, as JSON. */
  told: string
  gone: boolean
}

/** Milliseconds that calls have to be answered when their server is not offered any more. Its bridge answers each of them. */
const GRACE = 60_000

export class Mirrors {
  readonly #bus: Bus
  readonly #policy: BridgePolicy
  readonly #host: MirrorsHost
  readonly #mirrors = new Map<string, Mirror>()
  readonly #byStream = new Map<number, Mirror>()
  #streams = 0

  constructor(bus: Bus, policy: BridgePolicy, host: MirrorsHost) {
    this.#bus = bus
    this.#policy = policy
    this.#host = host
  }

  get size(): number {
    return this.#mirrors.size
  }

  of(bus: string): Entry[] {
    return this.#owned(bus).map(({ entry }) => entry)
  }

  /** All that a bridge offers now. */
  offered(owner: Owner, entries: readonly Entry[]): void {
    const ids = new Set(entries.map(({ id }) => id))
    for (const mirror of this.#owned(owner.bus)) if (!ids.has(mirror.entry.id)) void this.#remove(mirror, GRACE)
    for (const entry of entries) this.#offer(owner, entry)
  }

  /** This bridge is gone. */
  lost(bus: string): void {
    for (const mirror of this.#owned(bus)) void this.#remove(mirror, 0)
  }

  /** The streams that are wanted of this bus. */
  wishes(bus: string): Wish[] {
    return this.#owned(bus).flatMap(({ incoming }) => incoming?.wish ?? [])
  }

  /** `false`: nothing of that stream is wanted. */
  data(packet: Packet): boolean {
    const mirror = this.#byStream.get(packet.a)
    return mirror?.owner.bus === packet.from && mirror.incoming?.data(packet) === true
  }

  async close(): Promise<void> {
    await Promise.all([...this.#mirrors.values()].map((mirror) => this.#remove(mirror, 0)))
  }

  #owned(bus: string): Mirror[] {
    return [...this.#mirrors.values()].filter(({ owner }) => owner.bus === bus)
  }

  #offer(owner: Owner, entry: Entry): void {
    if (!this.#policy.allows(entry.kind, entry.name) || this.#host.isHere(entry.id)) return
    const known = this.#mirrors.get(entry.id)
    if (known === undefined) {
      const mirror: Mirror = { entry, owner, told: '', gone: false }
      this.#mirrors.set(entry.id, mirror)
      void this.#open(mirror).catch((error: unknown) => {
        // It may be gone already, and offered anew.
        if (this.#mirrors.get(entry.id) === mirror) this.#mirrors.delete(entry.id)
        this.#host.failed(error)
        this.#host.unopened(mirror.owner.bus)
      })
      return
    }
    const before = known.owner.bus
    known.entry = entry
    known.owner = owner
    this.#tell(known)
    // Another bridge of the same bus has taken over.
    if (before !== owner.bus) known.incoming?.moved()
  }

  async #open(mirror: Mirror): Promise<void> {
    const { entry } = mirror
    const { name, codec, schemaId, endpoints, topic } = entry
    const { access } = this.#policy
    const metadata = metadataOf(mirror)
    const described = { codec: asBytes(codec), schemaId, endpoints, access, metadata }
    mirror.told = JSON.stringify(metadata)
    if (topic === undefined) {
      mirror.server = await this.#bus.serve<Uint8Array, Uint8Array>(name, described, (request, context) =>
        this.#host.calls.call(mirror.owner.bus, entry.id, request, context),
      )
      mirror.server.on('failed', (error) => debug('the mirror of %s: %s', name, error))
    } else {
      mirror.publisher = await this.#bus.publisher<Uint8Array>(name, { ...described, ...topic })
      mirror.incoming = new Incoming(entry, mirror.publisher, this.#policy.window, this.#incomingHost(mirror))
    }
    if (mirror.gone) await close(mirror, 0)
    else this.#tell(mirror)
  }

  /** Its record says where it is, and what its instance says. */
  #tell(mirror: Mirror): void {
    const metadata = metadataOf(mirror)
    const json = JSON.stringify(metadata)
    const own = mirror.publisher ?? mirror.server
    if (own === undefined || json === mirror.told) return
    mirror.told = json
    try {
      own.update(metadata)
    } catch (error) {
      // A record that cannot be written, a full disk for example. Its next change is written again.
      this.#host.failed(error)
    }
  }

  #incomingHost(mirror: Mirror): IncomingHost {
    const host = this.#host
    return {
      newStream: () => {
        const stream = ++this.#streams
        this.#byStream.set(stream, mirror)
        return stream
      },
      dropStream: (stream) => void this.#byStream.delete(stream),
      wants: () => host.wants(mirror.owner.bus),
      taken: (stream, number) => host.taken(mirror.owner.bus, stream, number),
      received: (messages) => host.received(messages),
      missed: (messages) => host.missed(messages),
      oversized: (what, bytes) => host.oversized(what, bytes),
      wrong: () => host.wrong(),
      failed: (error) => host.failed(error),
    }
  }

  async #remove(mirror: Mirror, grace: number): Promise<void> {
    mirror.gone = true
    this.#mirrors.delete(mirror.entry.id)
    try {
      await close(mirror, grace)
    } catch (error) {
      this.#host.failed(error)
    }
  }
}

async function close({ incoming, publisher, server }: Mirror, grace: number): Promise<void> {
  incoming?.close()
  await publisher?.close()
  await server?.close({ grace })
}

function metadataOf({ entry, owner }: Mirror): Record<string, unknown> {
  return { ...entry.metadata, origin: { bus: owner.bus, host: owner.host, id: entry.id, hops: 1 } }
}
