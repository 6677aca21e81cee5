/**
 * The compiled binding: its shape, and the only place that loads it. Loading happens at the first native call, never at
 * import, so that types, errors and codecs can be used anywhere; off Linux, or without the binary, that call says what
 * is missing. Nothing here decides anything: names and numbers are those of crates/node.
 */
import { createRequire } from 'node:module'
import { RingbellError } from './errors.js'

/** The memory layout that this TypeScript was written for (`LAYOUT_VERSION` of crates/ring). */
export const LAYOUT_VERSION = 1

/** Entries of a subscriber's table: 4 words a message (offset, length, offset of its batch frame, index in that batch). */
export const TABLE_WORDS = 4

/** In place of the offset of a batch frame: that frame came with an earlier drain; see the scratch words. */
export const BATCH_BEFORE = 0xffff_ffff

export const DRAIN_NEEDS_SLAB = -1
export const DRAIN_NOTICE = -2
/**
 * A message that came in pieces. Of a subscriber: `takeLarge` has it, the table's first entry and the scratch words describe
 * it. Of a channel: it is arriving, and the scratch words say whose.
 */
export const DRAIN_LARGE = -3
/** In place of the bytes of a channel's large message: it will never be whole. */
export const LARGE_GONE = -1

/** A pollable object of the binding. */
export interface NativeEndpoint {
  close(): void
}

export interface NativeWatch extends NativeEndpoint {
  /** JSON array of `{type, record}`; `''` when nothing happened. */
  take(): string
}

export interface NativeAnnounced {
  record(): string
  update(json: string): void
  close(): void
}

export interface NativePublisherHot {
  /** 1 sent, 0 full or dropped. */
  readonly send: (data: Uint8Array) => number
  /** Begins a message of any size (`done` 0), or goes on with it by a piece; how many bytes were sent now, as many as `done` when there is no room. */
  readonly sendLarge: (data: Uint8Array, done: number) => number
  /** Gives up what `sendLarge` began. */
  readonly abandonLarge: () => void
  /** Length in bytes, 0 when there is no room. `scratch[0]` is the offset of the first frame header, `scratch[1]` the memory's kind. */
  readonly openWindow: (minBytes: number) => number
  /** Writes the headers of `count` frames from the lengths table and makes them visible. */
  readonly commit: (count: number) => void
  readonly abandon: () => void
  readonly hasRoom: (bytes: number) => boolean
  /** `true`: announced that room is awaited, and there still is none. */
  readonly armRoom: (bytes: number) => boolean
  readonly spinRoom: (bytes: number, iterations: number) => boolean
  readonly sweep: () => void
}

export interface NativePublisher extends NativeEndpoint {
  hot(): NativePublisherHot
  readonly scratch: Float64Array
  readonly lengths: Uint32Array
  /** 0: the ring's frames, mapped twice in a row; 1: the private buffer of `drop-oldest`. */
  memory(kind: 0 | 1): ArrayBuffer
  readonly maxMessage: number
  readonly subscribers: number
  stats(): string
  record(): string
  update(json: string): void
}

export interface NativeSubscriberHot {
  /** Messages copied, 0 when there are none, or one of the `DRAIN_…` values (then `scratch[0]` is the number of bytes needed). */
  readonly drain: (slab: Uint8Array, fill: number) => number
  readonly spin: (iterations: number) => boolean
  /** `true`: nothing is there, the doorbell will ring. */
  readonly arm: () => boolean
  readonly lease: () => number
  readonly release: (source: number) => void
  /** All up to this sequence are done. `false`: that is no news, or the source has ended. */
  readonly ack: (source: number, sequence: number) => boolean
}

export interface NativeSubscriber extends NativeEndpoint {
  hot(): NativeSubscriberHot
  /** After a drain: source, bytes of the slab that were used, first sequence, first time in ns. */
  readonly scratch: Float64Array
  readonly table: Uint32Array
  /** After `DRAIN_LARGE`, once: the message, in memory of its own. */
  takeLarge(): Uint8Array
  sourceMemory(source: number): ArrayBuffer
  notices(): string
  stats(): string
  /** `close`, and durable positions are given up. */
  forget(): void
}

/** Of one endpoint with any number of connections. `kind` has the flags in its second byte (docs/protocol.md). */
export interface NativeChannelHot {
  /** 1 sent, 0 no room. Throws `PEER_GONE` for a connection that has ended, `MESSAGE_TOO_LARGE` beyond half of the ring. */
  readonly send: (connection: number, kind: number, id: number, aux: number, data: Uint8Array) => number
  /** Begins (`done` 0) or goes on with a message of any size; how many bytes of it are in by now. */
  readonly sendLarge: (
    connection: number,
    kind: number,
    id: number,
    aux: number,
    data: Uint8Array,
    done: number,
  ) => number
  /** Gives up the large message that is on its way out; the peer drops what it has of it. */
  readonly abandonLarge: (connection: number) => void
  /** Messages of one connection, 0 when none came within so many pause instructions, or one of the `DRAIN_…` values. */
  readonly drain: (slab: Uint8Array, fill: number, iterations: number) => number
  /** Goes on with a large message; how many bytes of it are in `target` by now, `LARGE_GONE` when its sender gave it up. */
  readonly drainLarge: (connection: number, target: Uint8Array) => number
  readonly skipLarge: (connection: number) => void
  /** `true`: nothing is there, the doorbell will ring. */
  readonly arm: () => boolean
  /** For a message with so many bytes of data, and its header. */
  readonly hasRoom: (connection: number, bytes: number) => boolean
  /** `true`: announced that room is awaited, and there still is none. */
  readonly armRoom: (connection: number, bytes: number) => boolean
}

export interface NativeChannel extends NativeEndpoint {
  hot(): NativeChannelHot
  /** After a drain: connection, bytes of the slab that were used; of a large message connection, bytes, kind, id, aux. */
  readonly scratch: Float64Array
  readonly table: Uint32Array
  /** JSON array; `''` when nothing happened. */
  notices(): string
  /** The number of the connection to be; `opened` or `failed` follows. */
  connect(recordJson: string, optionsJson: string): number
  /** In good order: what was sent is still read. Nothing is told of it afterwards. */
  disconnect(connection: number): void
  /** The largest data of one message that goes at once. */
  maxMessage(connection: number): number
  /** `false`: not at the moment, and nothing tells when. */
  sendFds(connection: number, data: Uint8Array, fds: number[]): boolean
  /** The descriptors are the caller's own, close-on-exec. */
  receiveFds(connection: number): { data: Uint8Array; fds: number[] } | null
  /** Takes no new clients any more; those that are connected stay. */
  withdraw(): void
  stats(): string
  record(): string
  update(json: string): void
}

export interface NativeBus {
  readonly path: string
  list(): string
  gc(): string
  doctor(): string
  watch(filter: string): NativeWatch
  announce(json: string): NativeAnnounced
  publisher(service: string, optionsJson: string): NativePublisher
  subscriber(pattern: string, optionsJson: string): NativeSubscriber
  serve(service: string, optionsJson: string): NativeChannel
  channel(optionsJson: string): NativeChannel
  close(): void
}

export interface NativeSlabPool {
  take(minBytes: number): Uint8Array
  /** Gives memory that nobody uses back to the system, but for `keepBytes` (4 MiB). */
  trim(keepBytes?: number): void
  stats(): string
  /** `false` where the engine forbids external memory (Electron): then slabs are ordinary ArrayBuffers. */
  readonly external: boolean
}

export interface NativePoller {
  /** Whether the event loop calls `onReady`; otherwise `poll` must be called from time to time. */
  readonly supported: boolean
  /** Looks now, without the loop: writes the ready ids and answers with their number. */
  poll(): number
  add(endpoint: NativeEndpoint): number
  remove(id: number): void
  ref(): void
  unref(): void
  close(): void
}

export interface NativeBinding {
  errorCodes(): string[]
  layoutVersion(): number
  version(): string
  NativeBus: { open(optionsJson: string): NativeBus }
  NativeSlabPool: new () => NativeSlabPool
  NativePoller: new (onReady: (count: number) => void, ready: Uint32Array, onLoop?: boolean) => NativePoller
}

let loaded: NativeBinding | undefined

/**
 * The binding, loaded once.
 *
 * @throws {RingbellError} `ERR_RINGBELL_UNSUPPORTED_PLATFORM` off Linux, `ERR_RINGBELL_BINDING` when the compiled file is
 * missing or of another layout.
 */
export function binding(): NativeBinding {
  return (loaded ??= load())
}

function load(): NativeBinding {
  if (process.platform !== 'linux') {
    throw new RingbellError(
      'ERR_RINGBELL_UNSUPPORTED_PLATFORM',
      `ringbell needs Linux (memfd, eventfd, epoll); this is ${process.platform}. Types, errors and codecs work here, a bus does not.`,
    )
  }
  const native = requireBinding()
  const layout = native.layoutVersion()
  if (layout !== LAYOUT_VERSION) {
    throw new RingbellError(
      'ERR_RINGBELL_BINDING',
      `The compiled binding has memory layout ${layout}, this package was written for ${LAYOUT_VERSION}. Reinstall ringbell so that both come from one release.`,
    )
  }
  return native
}

function requireBinding(): NativeBinding {
  try {
    return createRequire(import.meta.url)('../native/binding.cjs') as NativeBinding
  } catch (cause) {
    throw new RingbellError(
      'ERR_RINGBELL_BINDING',
      `No compiled binding for ${process.platform}-${process.arch} could be loaded. Reinstall without --omit=optional, or build it with "npm run build" in a clone (needs Rust).`,
      { cause },
    )
  }
}
