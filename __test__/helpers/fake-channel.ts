/**
 * The native contract of channels in memory: a bus, its records, and endpoints whose rings are lists with a limit. It makes
 * the decisions of the core in the simplest way: which connection is drained next, when there is room, which endpoint is
 * woken. Tests can make peers die, hold back or misbehave. Wake-ups come from a macrotask, as those of the poller do.
 */
import { randomBytes } from 'node:crypto'
import type { ExecutionContext } from 'ava'
import { Bus } from '../../src/bus/bus.js'
import type { NativeBus, NativeChannel, NativeChannelHot, NativeWatch } from '../../src/native.js'
import { Poller, type Wakeable } from '../../src/wait/poller.js'

const TABLE_WORDS = 4
const ENTRIES = 64
const FRAME = 24
const HEADER = 16
/** The frame of a message begins with its length and that of its headers. */
const LENGTHS = 8

const real = Object.getOwnPropertyDescriptors(Poller.prototype)
/** The ids of the fakes are below 0, unlike those of the core. */
const fakes: Fake[] = []

/** Something that the patched poller wakes. */
class Fake {
  target: Wakeable | undefined
  /** The poller watches it. */
  watched = false
  #waking: NodeJS.Immediate | undefined

  /** Wakes it soon, and once, as the poller does. */
  wakeSoon(): void {
    this.#waking ??= setImmediate(() => {
      this.#waking = undefined
      this.target?.wake()
    })
  }

  /** Drops the wake-up: a drain of the core may have taken in the reason for it. */
  heard(): void {
    clearImmediate(this.#waking)
    this.#waking = undefined
  }

  close(): void {
    this.target = undefined
  }
}

Poller.prototype.add = function (this: Poller, endpoint, target) {
  if (!(endpoint instanceof Fake)) return (real.add.value as Poller['add']).call(this, endpoint, target)
  endpoint.target = target
  endpoint.watched = true
  return -fakes.push(endpoint)
}

Poller.prototype.remove = function (this: Poller, id) {
  const one = fakes[-id - 1]
  if (one === undefined) (real.remove.value as Poller['remove']).call(this, id)
  else one.watched = false
}

function failure(code: string, message: string): Error {
  return Object.assign(new Error(message), { code: `ERR_RINGBELL_${code}` })
}

/**
 * A message, of which `done` bytes are written. A large one is written and read in pieces, any other one at once. The
 * reader of a large message gets a notice (`announced`) and may skip it. The writer may give it up.
 */
function message(head: number, id: number, aux: number, data: Uint8Array, done: number, large: boolean) {
  return { head, id, aux, data, large, done, taken: 0, announced: false, abandoned: false, skipped: false }
}

type Item = ReturnType<typeof message>

/** How many bytes at the end of a message are headers. */
function headersOf({ head }: Item): number {
  return head >>> 16
}

/** Takes everything out of the list, as JSON. */
function taken(list: object[]): string {
  return list.length === 0 ? '' : JSON.stringify(list.splice(0))
}

/** One direction of a connection. */
export class Ring {
  readonly items: Item[] = []
  readonly capacity: number
  /** The bytes that the writer wants room for, until it sends something, and whether it is still to be woken for them. */
  wanted = Infinity
  armed = false
  /** Messages that the reader has taken. */
  delivered = 0
  /** Whether the reader takes nothing. */
  held = false

  constructor(capacity: number) {
    this.capacity = capacity
  }

  get maxMessage(): number {
    return this.capacity / 2 - 32 - HEADER
  }

  room(bytes: number): boolean {
    const used = this.items.reduce((sum, { done, taken }) => sum + done - taken + HEADER + FRAME, 0)
    return used + bytes + HEADER + FRAME <= this.capacity
  }

  /** The oldest message, if the reader can do something with it now. */
  get next(): Item | undefined {
    const [item] = this.items
    if (item === undefined || this.held) return undefined
    return !item.announced || item.abandoned || item.done > item.taken ? item : undefined
  }
}

/** One side of a connection. */
interface Side {
  readonly owner: FakeChannel
  readonly number: number
  readonly out: Ring
  readonly in: Ring
  twin: Side
  readonly fds: { data: Uint8Array; fds: number[] }[]
  /** How the other side has ended. What it sent before is read first. */
  ending?: string
  /** Every call about this connection finds that its peer broke the rules. */
  corrupt?: boolean
}

type FakeRecord = Record<'service' | 'id', string>

export class FakeChannel extends Fake implements NativeChannel {
  readonly scratch = new Float64Array(5)
  readonly table = new Uint32Array(ENTRIES * TABLE_WORDS)
  readonly sides = new Map<number, Side>()
  readonly bus: FakeBus
  readonly recordJson: string
  readonly capacity: number
  closed = false
  /** What the core answers from now on. */
  broken: Error | undefined
  /** Bytes of the largest message that the core takes. */
  largest = 2 ** 30
  /** The number of calls of the core. */
  readonly calls = { armRoom: 0 }
  readonly #notices: object[] = []
  #next = 0
  #turn = 0
  #armed = false

  constructor(bus: FakeBus, record: FakeRecord | undefined, capacity: number) {
    super()
    this.bus = bus
    this.recordJson = JSON.stringify(record ?? {})
    this.capacity = capacity
  }

  readonly hot = (): NativeChannelHot => this.#hot
  readonly maxMessage = (connection: number): number => this.#side(connection).out.maxMessage
  readonly receiveFds = (connection: number) => this.sides.get(connection)?.fds.shift() ?? null
  withdraw = (): void => this.bus.withdraw(this)
  readonly notices = (): string => taken(this.#notices)
  readonly stats = (): string => '{}'
  readonly record = (): string => this.recordJson
  readonly update = (): void => {}
  readonly setGroup = (): void => {}
  override readonly close = (): void => this.#leave('closed')
  /** As if the process had been killed. */
  readonly die = (): void => this.#leave('died')

  readonly #hot: NativeChannelHot = {
    send: (connection, head, id, aux, data) => {
      const { out, twin } = this.#side(connection)
      if (!(data instanceof Uint8Array)) throw failure('INVALID_OPTION', 'a Uint8Array was expected')
      const { byteLength } = data
      if (byteLength > out.maxMessage) throw failure('MESSAGE_TOO_LARGE', `${byteLength} bytes`)
      if (!out.room(byteLength)) return 0
      out.wanted = Infinity
      out.items.push(message(head, id, aux, new Uint8Array(data), byteLength, false))
      twin.owner.arrived()
      return 1
    },
    sendLarge: (connection, head, id, aux, data, done) => {
      const { out, twin } = this.#side(connection)
      if (data.byteLength > this.largest) throw failure('MESSAGE_TOO_LARGE', `${data.byteLength} bytes`)
      let item = out.items.at(-1)
      // The header is a piece of its own.
      if (item?.large !== true || item.id !== id || item.head !== head || item.done !== done) {
        if (!out.room(0)) return done
        item = message(head, id, aux, new Uint8Array(data.byteLength), 0, true)
        out.items.push(item)
      }
      // As much as there is room for.
      while (item.done < data.byteLength) {
        const piece = data.subarray(item.done, item.done + out.capacity / 4)
        if (!out.room(piece.byteLength)) break
        item.data.set(piece, item.done)
        item.done += piece.byteLength
        out.wanted = Infinity
      }
      twin.owner.arrived()
      return item.done
    },
    abandonLarge: (connection) => {
      const { out, twin } = this.#side(connection)
      const item = out.items.at(-1)
      if (item?.large !== true || item.done === item.data.byteLength) return
      item.abandoned = true
      twin.owner.arrived()
    },
    drain: (slab, fill) => {
      if (this.broken !== undefined) throw this.broken
      return this.#drain(slab, fill)
    },
    drainLarge: (connection, target) => {
      const side = this.#side(connection)
      const [item] = side.in.items
      if (item?.large !== true || item.data.byteLength !== target.byteLength) return 0
      if (side.in.held) return item.taken
      if (!item.abandoned) target.set(item.data.subarray(item.taken, item.done), item.taken)
      this.#took(side, item)
      return item.abandoned ? -1 : item.taken
    },
    skipLarge: (connection) => {
      const side = this.#side(connection)
      const [item] = side.in.items
      if (item === undefined) return
      item.skipped = true
      this.#took(side, item)
    },
    arm: () => {
      this.#noteEndings()
      const sides = [...this.sides.values()]
      const ready = sides.some((side) => side.in.next !== undefined || side.out.room(side.out.wanted))
      this.#armed = !ready && this.#notices.length === 0
      return this.#armed
    },
    hasRoom: (connection, bytes) => this.#side(connection).out.room(bytes),
    armRoom: (connection, bytes) => {
      this.calls.armRoom++
      const { out } = this.#side(connection)
      if (out.room(bytes)) return false
      out.armed = true
      out.wanted = bytes
      return true
    },
  }

  connect(recordJson: string): number {
    const record = JSON.parse(recordJson) as FakeRecord
    const connection = this.#next++
    const server = this.bus.channels.get(record.id)
    this.bus.connects++
    if (server === undefined || this.bus.refusing) {
      const error = { code: 'ERR_RINGBELL_REFUSED', message: 'refused by the test' }
      this.#tell({ type: 'failed', connection, error })
      return connection
    }
    const [up, down] = [new Ring(server.capacity), new Ring(server.capacity)]
    const mine: Side = { owner: this, number: connection, out: up, in: down, fds: [], twin: undefined as never }
    const theirs: Side = { owner: server, number: server.#next++, out: down, in: up, fds: [], twin: mine }
    mine.twin = theirs
    for (const side of [theirs, mine]) {
      const { owner, number } = side
      owner.sides.set(number, side)
      const common = { type: 'opened', connection: number, pid: 1, uid: 0, rung: 'handshake', fallbacks: [] }
      owner.#tell(owner === this ? { ...common, record } : common)
    }
    return connection
  }

  disconnect(connection: number): void {
    const side = this.sides.get(connection)
    if (side === undefined) return
    this.sides.delete(connection)
    side.twin.owner.#end(side.twin, 'closed')
  }

  sendFds(connection: number, data: Uint8Array, fds: number[]): boolean {
    const { twin } = this.#side(connection)
    if (twin.fds.length >= 2) return false
    twin.fds.push({ data: new Uint8Array(data), fds: [...fds] })
    twin.owner.#tell({ type: 'fds', connection: twin.number })
    return true
  }

  /** From outside, past everything that this side's own code would do. */
  inject(connection: number, head: number, id: number, aux: number, data: Uint8Array): void {
    const { out, twin } = this.#side(connection)
    out.items.push(message(head, id, aux, data, data.byteLength, false))
    twin.owner.arrived()
  }

  /** As when the core finds a cursor that cannot be one: the next call about this connection says so, whichever it is. */
  corrupt(connection: number): void {
    this.#side(connection).corrupt = true
  }

  arrived(): void {
    if (!this.#armed) return
    this.#armed = false
    this.wakeSoon()
  }

  #leave(reason: string): void {
    if (this.closed) return
    this.closed = true
    this.target = undefined
    this.bus.withdraw(this)
    for (const { twin } of this.sides.values()) twin.owner.#end(twin, reason)
    this.sides.clear()
  }

  #end(side: Side, reason: string): void {
    side.ending = reason
    this.wakeSoon()
  }

  #tell(notice: object): void {
    this.#notices.push(notice)
    this.wakeSoon()
  }

  #side(connection: number): Side {
    const side = this.sides.get(connection)
    if (side === undefined || this.closed) throw failure('PEER_GONE', `connection ${connection} has ended`)
    if (side.corrupt) throw failure('CORRUPT_PEER', 'invalid cursor: unaligned or ahead of head')
    return side
  }

  #noteEndings(): void {
    for (const { number, out, in: input, ending } of this.sides.values()) {
      if (ending === undefined || input.next !== undefined) continue
      this.sides.delete(number)
      this.#notices.push({ type: 'closed', connection: number, delivered: out.delivered, reason: ending })
    }
  }

  /** All that is in of the oldest message has been taken. */
  #took({ in: ring, twin }: Side, item: Item): void {
    item.taken = item.done
    if (item.abandoned || item.taken === item.data.byteLength) {
      ring.items.shift()
      ring.delivered++
    }
    if (ring.armed) twin.owner.wakeSoon()
    ring.armed = false
  }

  #drain(slab: Uint8Array, fill: number): number {
    this.heard()
    this.#noteEndings()
    if (this.#notices.length > 0) return -2
    const sides = [...this.sides.values()]
    for (let i = 0; i < sides.length; i++) {
      const side = sides[(this.#turn + i) % sides.length] as Side
      const item = side.in.next
      if (item?.skipped === true) {
        this.#took(side, item)
      } else if (item?.large === true) {
        item.announced = true
        this.scratch.set([side.number, item.data.byteLength - headersOf(item), item.head, item.id, item.aux])
        return -3
      } else if (item !== undefined) {
        this.#turn = (this.#turn + i + 1) % sides.length
        return this.#copy(side, item, slab, fill)
      }
    }
    return 0
  }

  #copy(side: Side, first: Item, slab: Uint8Array, fill: number): number {
    let at = fill
    let count = 0
    const view = new DataView(slab.buffer, slab.byteOffset)
    for (let item: Item | undefined = first; item?.large === false && count < ENTRIES; [item] = side.in.items) {
      const length = HEADER + item.data.byteLength
      if (at + LENGTHS + length > slab.byteLength) break
      view.setUint16(at + LENGTHS - 2, headersOf(item), true)
      at += LENGTHS
      view.setUint32(at, item.head & 0xffff, true)
      view.setUint32(at + 4, item.aux, true)
      view.setBigUint64(at + 8, BigInt(item.id), true)
      slab.set(item.data, at + HEADER)
      this.table.set([at, length - headersOf(item), 0, 0], count++ * TABLE_WORDS)
      at = (at + length + 7) & ~7
      this.#took(side, item)
    }
    this.scratch.set(count === 0 ? [LENGTHS + HEADER + first.data.byteLength + 8] : [side.number, at - fill])
    return count === 0 ? -1 : count
  }
}

class FakeWatch extends Fake implements NativeWatch {
  readonly events: object[] = []
  take = (): string => taken(this.events)
}

export class FakeBus {
  readonly path = '/fake'
  /** Those that are announced, by their id. */
  readonly channels = new Map<string, FakeChannel>()
  /** Every endpoint there ever was. */
  readonly made: FakeChannel[] = []
  connects = 0
  /** Connections cannot be made. */
  refusing = false
  readonly list = (): string => `[${[...this.channels.values()].map(({ recordJson }) => recordJson).join()}]`
  readonly close = (): void => {}
  readonly #watches: [service: string, FakeWatch][] = []

  serve(service: string, kind: string, optionsJson: string): NativeChannel {
    const { capacity = 65_536, codec, schema, metadata } = JSON.parse(optionsJson) as Record<string, unknown>
    const id = randomBytes(16).toString('hex')
    const record = { service, id, kind, pid: 1, uid: 0, protocol: 1, codec, payloadSchema: schema, metadata }
    const channel = this.#make(record, capacity as number)
    this.channels.set(id, channel)
    this.#tell('added', channel)
    return channel
  }

  channel(): NativeChannel {
    return this.#make(undefined, 0)
  }

  watch(service: string): NativeWatch {
    const watch = new FakeWatch()
    this.#watches.push([service, watch])
    for (const channel of this.channels.values()) this.#tell('added', channel, watch)
    return watch
  }

  withdraw(channel: FakeChannel): void {
    const { id } = JSON.parse(channel.recordJson) as FakeRecord
    if (this.channels.delete(id)) this.#tell('removed', channel)
  }

  /** From now on the directory cannot be read. */
  hide(): void {
    for (const [, watch] of this.#watches) {
      watch.events.push({ type: 'unreadable', error: { code: 'ERR_RINGBELL_RESOURCE', message: 'no room' } })
      watch.wakeSoon()
    }
  }

  #make(record: FakeRecord | undefined, capacity: number): FakeChannel {
    const channel = new FakeChannel(this, record, capacity)
    this.made.push(channel)
    return channel
  }

  #tell(type: string, { recordJson }: FakeChannel, only?: FakeWatch): void {
    const record = JSON.parse(recordJson) as FakeRecord
    for (const [service, watch] of this.#watches) {
      if (service !== record.service || (only !== undefined && only !== watch)) continue
      watch.events.push({ type, record })
      watch.wakeSoon()
    }
  }
}

/** A bus of the library's over a fake of the core's, closed at the end of the test. */
export function fakeBus(t: ExecutionContext): { bus: Bus; fake: FakeBus } {
  const fake = new FakeBus()
  const bus = Reflect.construct(Bus, [fake as unknown as NativeBus]) as Bus
  t.teardown(() => bus.close())
  return { bus, fake }
}

/** Turns of the event loop. */
export async function turns(count = 1): Promise<void> {
  for (let i = 0; i < count; i++) await new Promise((resolve) => setImmediate(resolve))
}
