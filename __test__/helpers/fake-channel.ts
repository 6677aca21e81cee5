/**
 * The native contract of channels in memory: a bus, its records, and endpoints whose rings are lists with a limit. Everything
 * that the core decides is decided here by the simplest means (who is drained next, when there is room, who is woken), and
 * tests can have peers die, hold back or misbehave. Wake-ups come from a macrotask, as the poller's do.
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

const [addReal, removeReal] = ['add', 'remove'].map(
  (name) => Object.getOwnPropertyDescriptor(Poller.prototype, name)?.value as unknown,
) as [Poller['add'], Poller['remove']]

/** Something that the patched poller knows by name. */
class Fake {
  target: Wakeable | undefined
  /** The poller watches it. */
  watched = false
  #waking: NodeJS.Immediate | undefined

  /** As the poller would: soon, and once. */
  wakeSoon(): void {
    this.#waking ??= setImmediate(() => {
      this.#waking = undefined
      this.target?.wake()
    })
  }

  /** The core itself has heard of what was to wake us, as it may whenever it is asked to drain. */
  heard(): void {
    clearImmediate(this.#waking)
    this.#waking = undefined
  }

  close(): void {
    this.target = undefined
  }
}

/** Their ids are below 0, unlike those of the core. */
const fakes: Fake[] = []

Poller.prototype.add = function (this: Poller, endpoint, target) {
  if (!(endpoint instanceof Fake)) return addReal.call(this, endpoint, target)
  endpoint.target = target
  endpoint.watched = true
  return -fakes.push(endpoint)
}

Poller.prototype.remove = function (this: Poller, id) {
  const one = fakes[-id - 1]
  if (one === undefined) removeReal.call(this, id)
  else one.watched = false
}

function failure(code: string, message: string): Error {
  return Object.assign(new Error(message), { code: `ERR_RINGBELL_${code}` })
}

interface Item {
  head: number
  id: number
  aux: number
  data: Uint8Array
  /** Bytes that are in; all of them for what is not large. */
  done: number
  /** Bytes that the reader has taken. */
  taken: number
  large: boolean
  /** The reader was told of it. */
  announced?: boolean
  abandoned?: boolean
}

/** One direction of a connection. */
export class Ring {
  readonly items: Item[] = []
  readonly capacity: number
  /** The writer wants to be woken when there is room. */
  roomArmed = false
  /** For how many bytes, until it sends something. */
  roomWanted = Infinity
  /** Messages that the reader has taken. */
  delivered = 0
  closed = false
  /** The reader takes nothing. */
  held = false

  constructor(capacity: number) {
    this.capacity = capacity
  }

  get used(): number {
    return this.items.reduce((sum, { done, taken }) => sum + done - taken + HEADER + FRAME, 0)
  }

  get readable(): boolean {
    const [first] = this.items
    return (
      !this.held &&
      first !== undefined &&
      (!first.large || first.done > first.taken || first.announced !== true || first.abandoned === true)
    )
  }

  room(bytes: number): boolean {
    return this.used + bytes + HEADER + FRAME <= this.capacity
  }
}

class Side {
  readonly number: number
  readonly peer: FakeChannel
  readonly out: Ring
  readonly in: Ring
  twin!: Side
  readonly fds: { data: Uint8Array; fds: number[] }[] = []
  ending: object | undefined
  gone = false
  /** Whatever is asked about this connection finds that its peer broke the rules. */
  corrupt = false

  constructor(number: number, peer: FakeChannel, out: Ring, input: Ring) {
    this.number = number
    this.peer = peer
    this.out = out
    this.in = input
  }
}

export class FakeChannel extends Fake implements NativeChannel {
  readonly scratch = new Float64Array(5)
  readonly table = new Uint32Array(ENTRIES * TABLE_WORDS)
  readonly sides = new Map<number, Side>()
  readonly bus: FakeBus
  readonly recordJson: string
  readonly capacity: number
  /** How often the core was asked to look, to drain and to arm. */
  readonly calls = { spin: 0, drain: 0, arm: 0, send: 0, armRoom: 0 }
  readonly #notices: object[] = []
  #next = 0
  #turn = 0
  #armed = false
  closed = false
  /** What the core answers from now on. */
  broken: Error | undefined

  constructor(bus: FakeBus, record: string, capacity: number) {
    super()
    this.bus = bus
    this.recordJson = record
    this.capacity = capacity
  }

  hot(): NativeChannelHot {
    return {
      send: (connection, head, id, aux, data) => {
        this.calls.send++
        const side = this.#side(connection)
        if (!(data instanceof Uint8Array)) throw failure('INVALID_OPTION', 'a Uint8Array was expected')
        if (data.byteLength > this.maxMessage(connection))
          throw failure('MESSAGE_TOO_LARGE', `${data.byteLength} bytes`)
        if (!side.out.room(data.byteLength)) return 0
        const { byteLength: done } = data
        side.out.roomWanted = Infinity
        side.out.items.push({ head, id, aux, data: new Uint8Array(data), done, taken: 0, large: false })
        side.peer.arrived()
        return 1
      },
      sendLarge: (connection, head, id, aux, data, done) => {
        const side = this.#side(connection)
        const { out } = side
        let item = out.items.at(-1)
        // The header is a piece of its own.
        if (item?.large !== true || item.id !== id || item.head !== head || item.done !== done) {
          if (!out.room(0)) return done
          item = { head, id, aux, data: new Uint8Array(data.byteLength), done: 0, taken: 0, large: true }
          out.items.push(item)
          side.peer.arrived()
        }
        // As much as there is room for.
        while (item.done < data.byteLength) {
          const piece = Math.min(out.capacity / 4, data.byteLength - item.done)
          if (!out.room(piece)) break
          item.data.set(data.subarray(item.done, item.done + piece), item.done)
          item.done += piece
          out.roomWanted = Infinity
          side.peer.arrived()
        }
        return item.done
      },
      abandonLarge: (connection) => {
        const { out, peer } = this.#side(connection)
        const item = out.items.at(-1)
        if (item?.large !== true || item.done === item.data.byteLength) return
        item.abandoned = true
        peer.arrived()
      },
      drain: (slab, fill, iterations) => {
        if (iterations > 0) this.calls.spin++
        if (this.broken !== undefined) throw this.broken
        return this.#drain(slab, fill)
      },
      drainLarge: (connection, target) => {
        const side = this.#side(connection)
        const [item] = side.in.items
        if (item === undefined || !item.large || item.data.byteLength !== target.byteLength) return 0
        if (side.in.held) return item.taken
        if (item.abandoned === true) {
          this.#took(side, true)
          return -1
        }
        target.set(item.data.subarray(item.taken, item.done), item.taken)
        item.taken = item.done
        this.#took(side, item.done === item.data.byteLength)
        return item.taken
      },
      skipLarge: (connection) => {
        const side = this.#side(connection)
        const [item] = side.in.items
        if (item === undefined) return
        item.taken = item.done
        if (item.done === item.data.byteLength) this.#took(side, true)
        else this.#skipping.add(item)
      },
      arm: () => {
        this.calls.arm++
        if (this.#something()) return false
        this.#armed = true
        return true
      },
      hasRoom: (connection, bytes) => this.#side(connection).out.room(bytes),
      armRoom: (connection, bytes) => {
        this.calls.armRoom++
        const { out } = this.#side(connection)
        if (out.room(bytes)) return false
        out.roomArmed = true
        out.roomWanted = bytes
        return true
      },
    }
  }

  readonly #skipping = new Set<Item>()

  notices(): string {
    const notices = this.#notices.splice(0)
    return notices.length === 0 ? '' : JSON.stringify(notices)
  }

  connect(recordJson: string): number {
    const record = JSON.parse(recordJson) as { id: string }
    const number = this.#next++
    const server = this.bus.channels.get(record.id)
    this.bus.connects++
    if (server === undefined || this.bus.refusing) {
      this.#tell({
        type: 'failed',
        connection: number,
        error: { code: 'ERR_RINGBELL_REFUSED', message: 'refused by the test' },
      })
      return number
    }
    const there = server.#next++
    const [up, down] = [new Ring(server.capacity), new Ring(server.capacity)]
    const mine = new Side(number, server, up, down)
    const theirs = new Side(there, this, down, up)
    mine.twin = theirs
    theirs.twin = mine
    this.sides.set(number, mine)
    server.sides.set(there, theirs)
    const common = { type: 'opened', pid: 1, uid: 0, rung: 'handshake', fallbacks: [] }
    server.#tell({ ...common, connection: there })
    this.#tell({ ...common, connection: number, record })
    return number
  }

  disconnect(connection: number): void {
    const side = this.sides.get(connection)
    if (side === undefined) return
    side.gone = true
    this.sides.delete(connection)
    side.peer.#end(side.twin, { reason: 'closed' })
  }

  maxMessage(connection: number): number {
    return this.#side(connection).out.capacity / 2 - 32 - HEADER
  }

  withdraw(): void {
    this.bus.withdraw(this)
  }

  sendFds(connection: number, data: Uint8Array, fds: number[]): boolean {
    const { peer, twin } = this.#side(connection)
    if (twin.fds.length >= 2) return false
    twin.fds.push({ data: new Uint8Array(data), fds: [...fds] })
    peer.#tell({ type: 'fds', connection: twin.number })
    return true
  }

  receiveFds(connection: number): { data: Uint8Array; fds: number[] } | null {
    const side = this.sides.get(connection)
    return side?.fds.shift() ?? null
  }

  stats(): string {
    return '{}'
  }

  record(): string {
    return this.recordJson
  }

  update(): void {}

  override close(): void {
    this.#leave('closed')
  }

  /** As if the process had been killed. */
  die(): void {
    this.#leave('died')
  }

  /** From outside, past everything that this side's own code would do. */
  inject(connection: number, head: number, id: number, aux: number, data: Uint8Array): void {
    const { out, peer } = this.#side(connection)
    out.items.push({ head, id, aux, data, done: data.byteLength, taken: 0, large: false })
    peer.arrived()
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
    for (const side of this.sides.values()) side.peer.#end(side.twin, { reason })
    this.sides.clear()
  }

  /** The other side of this one is gone; what it had sent is read first. */
  #end(side: Side, how: object): void {
    side.gone = true
    side.ending = how
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
    if (side.gone && side.in.items.length === 0 && side.out.items.length === 0) return side
    return side
  }

  #something(): boolean {
    this.#endings()
    if (this.#notices.length > 0) return true
    for (const side of this.sides.values()) if (side.in.readable || side.out.room(side.out.roomWanted)) return true
    return false
  }

  #endings(): void {
    for (const side of this.sides.values()) {
      if (side.ending === undefined || side.in.readable) continue
      this.sides.delete(side.number)
      this.#notices.push({
        type: 'closed',
        connection: side.number,
        delivered: side.out.delivered,
        ...side.ending,
      })
    }
  }

  #took(side: Side, whole: boolean): void {
    const { in: ring } = side
    if (whole) {
      ring.items.shift()
      ring.delivered++
    }
    if (!ring.roomArmed) return
    ring.roomArmed = false
    side.peer.wakeSoon()
  }

  #drain(slab: Uint8Array, fill: number): number {
    this.calls.drain++
    this.heard()
    this.#endings()
    if (this.#notices.length > 0) return -2
    const sides = [...this.sides.values()]
    for (let i = 0; i < sides.length; i++) {
      const side = sides[(this.#turn + i) % sides.length] as Side
      if (!side.in.readable) continue
      const [first] = side.in.items
      if (first?.large === true) {
        if (this.#skipping.has(first)) {
          first.taken = first.done
          const over = first.done === first.data.byteLength || first.abandoned === true
          if (over) this.#skipping.delete(first)
          this.#took(side, over)
          continue
        }
        first.announced = true
        this.scratch.set([side.number, first.data.byteLength, first.head, first.id, first.aux])
        return -3
      }
      this.#turn = (this.#turn + i + 1) % sides.length
      return this.#copy(side, slab, fill)
    }
    return 0
  }

  #copy(side: Side, slab: Uint8Array, fill: number): number {
    let at = fill
    let count = 0
    const view = new DataView(slab.buffer, slab.byteOffset)
    for (let [item] = side.in.items; item !== undefined && !item.large && count < ENTRIES; [item] = side.in.items) {
      const length = HEADER + item.data.byteLength
      if (at + length > slab.byteLength) break
      view.setUint32(at, item.head, true)
      view.setUint32(at + 4, item.aux, true)
      view.setUint32(at + 8, item.id, true)
      view.setUint32(at + 12, Math.floor(item.id / 2 ** 32), true)
      slab.set(item.data, at + HEADER)
      this.table.set([at, length, 0, 0], count * TABLE_WORDS)
      at = (at + length + 7) & ~7
      count++
      this.#took(side, true)
    }
    if (count === 0) {
      this.scratch[0] = HEADER + (side.in.items[0] as Item).data.byteLength + 8
      return -1
    }
    this.scratch[0] = side.number
    this.scratch[1] = at - fill
    return count
  }
}

class FakeWatch extends Fake implements NativeWatch {
  readonly events: object[] = []
  readonly name: string

  constructor(name: string) {
    super()
    this.name = name
  }

  take(): string {
    const events = this.events.splice(0)
    return events.length === 0 ? '' : JSON.stringify(events)
  }
}

export class FakeBus {
  readonly path = '/fake'
  readonly channels = new Map<string, FakeChannel>()
  /** Every endpoint there ever was. */
  readonly made: FakeChannel[] = []
  connects = 0
  /** Connections cannot be made. */
  refusing = false
  readonly #watches = new Set<FakeWatch>()

  serve(service: string, kind: string, optionsJson: string): NativeChannel {
    const {
      capacity = 65_536,
      codec,
      schema,
      metadata,
    } = JSON.parse(optionsJson) as {
      capacity?: number
      codec?: string
      schema?: string
      metadata?: object
    }
    const id = randomBytes(16).toString('hex')
    const record = { service, id, kind, pid: 1, uid: 0, protocol: 1, codec, payloadSchema: schema, metadata }
    const channel = new FakeChannel(this, JSON.stringify(record), capacity)
    this.channels.set(id, channel)
    this.made.push(channel)
    this.#tell('added', record)
    return channel
  }

  channel(): NativeChannel {
    const channel = new FakeChannel(this, '{}', 0)
    this.made.push(channel)
    return channel
  }

  watch(name: string): NativeWatch {
    const watch = new FakeWatch(name)
    this.#watches.add(watch)
    for (const { recordJson } of this.channels.values()) {
      const record = JSON.parse(recordJson) as { service: string }
      if (record.service === name) watch.events.push({ type: 'added', record })
    }
    return watch
  }

  list(): string {
    return '[]'
  }

  close(): void {}

  withdraw(channel: FakeChannel): void {
    const record = JSON.parse(channel.recordJson) as { id?: string }
    if (record.id !== undefined && this.channels.delete(record.id)) this.#tell('removed', record)
  }

  #tell(type: string, record: object): void {
    for (const watch of this.#watches) {
      if (watch.name !== (record as { service?: string }).service) continue
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
