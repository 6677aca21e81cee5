/**
 * The options of channels and work queues. What only TypeScript knows (calls, retries, limits of its own) is checked here. Everything else
 * goes to the core as the user wrote it, and the core checks it.
 */
import type { Access, Description } from '../bus/options.js'
import type { Rung } from '../bus/service.js'
import {
  anything,
  check,
  coreJson,
  duration,
  flag,
  integer,
  invalid,
  listOf,
  LONGEST_MS,
  oneOf,
  type Rule,
  type Rules,
  signal,
  text,
} from '../check.js'
import type { CodecOption } from '../codec/index.js'
import { type Schema, standardSchema } from '../codec/schema.js'
import type { SignalOptions } from '../wait/abort.js'
import { reconnect, type ReconnectOptions } from '../wait/backoff.js'
import { checkWait, type WaitOption } from '../wait/policy.js'
import type { Route } from './routing.js'

/** What both sides of a channel choose for themselves. */
export interface ChannelOptions {
  /** How to wait, `'adaptive'` by default. */
  wait?: WaitOption | undefined
  /**
   * Bytes that a message may have, 64 MiB by default, at most 1 GiB. A larger one is not taken: the one who made the request or
   * waits for the reply is told; a plain message is dropped, and its receiver is told (`'failed'`).
   */
  maxMessage?: number | undefined
}

export interface ServeOptions<Q = Uint8Array, R = Uint8Array> extends Description, ChannelOptions {
  /** How requests and replies become bytes; its id stands in the record, and a client with another one does not connect. */
  codec?: CodecOption<Q | R> | undefined
  /** What requests must be: any Standard Schema. What it gives back is what the handler gets. */
  requests?: Schema<Q> | undefined
  /** What replies must be, streamed ones each. */
  replies?: Schema<R> | undefined
  /** Bytes of each ring, two a connection: a power of two, 64 KiB by default. What is larger than half of it goes in pieces. */
  capacity?: number | undefined
  /** The rungs that clients may use: `'handshake'`, `'stream'` or, by default, both. Where no memory can be shared, `'stream'`. */
  offers?: Rung[] | undefined
  /** Connections at once, 1 to 65,535, 1,024 by default. Who comes when all are taken waits. */
  maxConnections?: number | undefined
  /**
   * Let other users connect; by default nobody but root may. A user of theirs gets no more connections than it leaves free.
   * Choose `maxRequests` and `maxMessage` by how far you trust them.
   */
  access?: Access | undefined
  /**
   * Requests that one connection may have without an answer, and answers that it has not read yet, 65,536 of each by default;
   * further requests fail with `ERR_RINGBELL_BUSY`. A client that goes on and leaves 16,384 more answers unread is disconnected.
   */
  maxRequests?: number | undefined
}

/** How large a client's rings shall be. */
export interface RingOptions {
  /**
   * Bytes of the ring that this side sends through: a power of two. By default, and at most, what the server has (`capacity`).
   */
  sendCapacity?: number | undefined
  /** The same of the ring that this side receives through. */
  receiveCapacity?: number | undefined
}

export interface ConnectOptions<Q = Uint8Array, R = Uint8Array> extends ChannelOptions, RingOptions {
  /** Expect this codec: a server with another one is not connected to (`'failed'`). `'bytes'` by default. */
  codec?: CodecOption<Q | R> | undefined
  /** Expect this schema id in the record. */
  schema?: string | undefined
  /** What requests must be: any Standard Schema; checked before they are sent. */
  requests?: Schema<Q> | undefined
  /** What replies must be, streamed ones each. */
  replies?: Schema<R> | undefined
  /** To which of several instances a call goes, `'first'` by default. */
  route?: Route | undefined
  /** Milliseconds that every call may take, where it does not say so itself; by default, and with 0, for ever. Not streams. */
  timeout?: number | undefined
  /** What to do when connecting fails, or a connection fails though its server lives. */
  reconnect?: ReconnectOptions | undefined
  /** Forces a rung of the acquisition ladder. `'direct'` is the handshake here, in which a channel's rings are made. */
  acquire?: Rung | 'auto' | undefined
}

export interface CallOptions extends SignalOptions {
  /** Milliseconds until the call fails with `ERR_RINGBELL_TIMEOUT`, and the handler's signal fires; 0: never. */
  timeout?: number | undefined
  /** Handling it twice does no harm: it is made again, up to 3 times, when its server is gone and nobody knows the outcome. */
  idempotent?: boolean | undefined
  /** Memory for the bytes of the reply, with the codec `bytes`: what is returned is a part of it. */
  into?: Uint8Array | undefined
}

/** How to close a server. */
export interface CloseOptions {
  /** Milliseconds in which what is under way may be done yet, 0 by default. Nothing new is taken on meanwhile. */
  grace?: number | undefined
}

export interface QueueOptions<T = Uint8Array> extends Description, ChannelOptions {
  /** How messages become bytes; workers must name the same. */
  codec?: CodecOption<T> | undefined
  /** The rungs that workers may use: `'handshake'`, `'stream'` or, by default, both. */
  offers?: Rung[] | undefined
  /** Bytes of each ring, two a worker: a power of two, 64 KiB by default. */
  capacity?: number | undefined
  /** Workers at once, 1,024 by default. */
  maxConnections?: number | undefined
  /** Let workers of other users connect; by default nobody's but root's may. */
  access?: Access | undefined
  /** Messages without an acknowledgement at once, 65,536 by default; then `push` says `false`. */
  limit?: number | undefined
  /** Deliveries of one message before it counts as failed, 5 by default. */
  attempts?: number | undefined
  /** Milliseconds that a worker may take for one; then it goes to another one. By default for ever. */
  timeout?: number | undefined
}

export interface WorkerOptions<T = Uint8Array> extends ChannelOptions, RingOptions {
  /** Expect this codec: a queue with another one is not connected to (`'failed'`). */
  codec?: CodecOption<T> | undefined
  /** Messages at once, 1 by default; so many are assigned before the first is acknowledged. */
  concurrency?: number | undefined
  /** What to do when connecting fails, or a connection fails though its queue lives. */
  reconnect?: ReconnectOptions | undefined
  /** Forces a rung of the acquisition ladder. */
  acquire?: Rung | 'auto' | undefined
}

/** What stands in the records. */
export const SERVER_KIND = 'server'
export const QUEUE_KIND = 'queue'

export const DEFAULT_MAX_MESSAGE = 64 * 2 ** 20
export const DEFAULT_MAX_REQUESTS = 65_536
export const DEFAULT_LIMIT = 65_536
export const DEFAULT_ATTEMPTS = 5

const COUNT = integer(1, 2 ** 24)
const TIME = duration(0, LONGEST_MS, 'milliseconds')
const CHANNEL: Rules = { wait: checkWait, maxMessage: integer(1, 2 ** 30), codec: anything }
const SERVE: Rules = { ...CHANNEL, requests: standardSchema, replies: standardSchema, maxRequests: COUNT }
const QUEUE: Rules = { ...CHANNEL, limit: COUNT, attempts: integer(1, 2 ** 20), timeout: TIME }
const CONNECT: Rules = {
  ...CHANNEL,
  reconnect,
  schema: text(256),
  requests: standardSchema,
  replies: standardSchema,
  route: oneOf('first', 'round-robin', 'least-busy'),
  timeout: TIME,
}
const WORKER: Rules = { ...CHANNEL, reconnect, concurrency: integer(1, 65_536) }
/** A proxy of one passes for an instance, and throws when its length is read. */
const bytesToFill: Rule = (value) =>
  ArrayBuffer.isView(value) && value instanceof Uint8Array ? undefined : 'must be a Uint8Array'
const CALL: Rules = { signal, timeout: TIME, idempotent: flag, into: bytesToFill }
const CLOSE: Rules = { grace: TIME }
const MOST_FDS = 16
const MOST_FD_DATA = 32_768

export function serveJson(options: ServeOptions<unknown, unknown>, codecId: string): string {
  return coreJson(options, SERVE, { codec: codecId })
}

export function queueJson(options: QueueOptions<unknown>, codecId: string): string {
  return coreJson(options, QUEUE, { codec: codecId })
}

export function connectJson(options: ConnectOptions<unknown, unknown>): string {
  return coreJson(options, CONNECT)
}

export function workerJson(options: WorkerOptions<unknown>): string {
  return coreJson(options, WORKER)
}

export function checkCall(options: CallOptions): void {
  check(options, CALL)
}

export function checkClose(options: object): void {
  check(options, CLOSE)
}

export function checkFds(data: unknown, fds: unknown): void {
  if (!(data instanceof Uint8Array) || data.byteLength > MOST_FD_DATA)
    throw invalid('data', data, `must be a Uint8Array of at most ${MOST_FD_DATA} bytes`)
  const broken = listOf(integer(0, 2 ** 31 - 1), 'file descriptors')(fds)
  if (broken !== undefined) throw invalid('fds', fds, broken)
  const { length } = fds as unknown[]
  if (length === 0 || length > MOST_FDS) throw invalid('fds', fds, `must be 1 to ${MOST_FDS} file descriptors`)
}
