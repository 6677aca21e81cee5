/**
 * The options of channels and work queues. Options that only TypeScript knows (calls, retries, limits of its own) are
 * checked here. The others go to the core as the user wrote them, and the core checks them.
 */
import { member, type Membership, roleOf } from '../bus/membership.js'
import type { Access, Description } from '../bus/options.js'
import type { Rung } from '../bus/service.js'
import { isBytes } from '../brand.js'
import {
  anything,
  bytesOnly,
  check,
  coreJson,
  duration,
  flag,
  integer,
  LONGEST_MS,
  notHere,
  oneOf,
  type Rules,
  signal,
  text,
} from '../check.js'
import type { HeadersOption } from '../headers.js'
import { invalid } from '../invalid.js'
import type { CodecOption } from '../codec/index.js'
import {
  type InputSchema,
  NOT_OF_CALLS,
  type Schema,
  schemaId,
  type StandardSchema,
  standardSchema,
} from '../codec/schema.js'
import type { SignalOptions } from '../wait/abort.js'
import { backoff, type BackoffOptions, reconnect, type ReconnectOptions } from '../wait/backoff.js'
import { checkWait, type WaitOption } from '../wait/policy.js'
import type { Route } from './routing.js'

/** Options that each side of a channel chooses for itself. */
export interface ChannelOptions {
  /** How to wait, `'adaptive'` by default. */
  wait?: WaitOption | undefined
  /**
   * The largest message in bytes that this side accepts, 64 MiB by default, at most 1 GiB. A call with a larger request
   * or reply fails. A larger plain message is dropped, and its receiver emits `'failed'`.
   */
  maxMessage?: number | undefined
}

/**
 * How a server takes calls and messages. Its handler gets a `Q` and returns an `R`; its connections receive an `M` and send an `S`.
 * `C`: what the codec takes and returns.
 */
export interface ServeOptions<Q = Uint8Array, R = Uint8Array, M = Q | R, S = M, C = Q | R>
  extends Description, ChannelOptions {
  /** How requests and replies become bytes. Its id is in the record, and a client with another codec does not connect. */
  codec?: CodecOption<C> | undefined
  /** The schema of requests: any Standard Schema. The handler gets the value that it returns. */
  requests?: Schema<Q> | undefined
  /** The schema of replies, and of each value of a streamed reply. They are checked, and sent as given. */
  replies?: InputSchema<R> | undefined
  /**
   * The schema of the messages of connections, which must answer at once. What is sent is checked, and sent as given. What is received is
   * the value that it returns.
   */
  messages?: StandardSchema<S, M> | undefined
  /**
   * Bytes of each of the two rings of a connection: a power of two, 64 KiB by default. A message above half of that
   * goes in pieces.
   */
  capacity?: number | undefined
  /**
   * The rungs that clients may use: `'handshake'`, `'stream'` or, by default, both. If no memory can be shared, only
   * `'stream'`.
   */
  offers?: Rung[] | undefined
  /** The most connections at once, 1 to 65,535, 1,024 by default. Further clients wait. */
  maxConnections?: number | undefined
  /**
   * The member of a service group that serves. While it is not primary, each call is refused with `ERR_RINGBELL_NOT_PRIMARY`. The record
   * says whether it is, for clients with `route: 'primary'`.
   */
  member?: Membership | undefined
  /**
   * Let other users connect; by default only root may. Each of these users gets at most as many connections as are
   * still free. Choose `maxRequests` and `maxMessage` by how far you trust them.
   */
  access?: Access | undefined
  /**
   * The most requests of one connection that are being handled, and the most answers that it has not read: 65,536 of each by default.
   * Further requests fail with `ERR_RINGBELL_BUSY`. A handler counts until it has ended, also if its call was given up, so it should
   * end when its `signal` fires. When the connection has ended, it counts for the user of that connection: at most 65,536 of these. A
   * handler that waits for something that can never come is collected at some time, and then counts no more. A client that goes on and leaves 16,384 more answers unread is disconnected.
   */
  maxRequests?: number | undefined
}

/** The size of a client's rings. */
export interface RingOptions {
  /** Bytes of the ring that this side sends through: a power of two. The default and the maximum is the server's `capacity`. */
  sendCapacity?: number | undefined
  /** The same for the ring that this side receives through. */
  receiveCapacity?: number | undefined
}

/**
 * How a client calls, and which servers it takes. A call takes a `Q` and returns an `R`; its connections receive an `M` and send an `S`.
 * `C`: what the codec takes and returns.
 */
export interface ConnectOptions<Q = Uint8Array, R = Uint8Array, M = Q | R, S = M, C = Q | R>
  extends ChannelOptions, RingOptions {
  /** The expected codec, `'bytes'` by default. The client does not connect to a server with another one (`'failed'`). */
  codec?: CodecOption<C> | undefined
  /** The expected id of the schema, as `bus.serve` was given it. The client does not connect to a server with another one (`'failed'`). */
  schemaId?: string | undefined
  /** The schema of requests: any Standard Schema. They are checked before they are sent, and sent as given. */
  requests?: InputSchema<Q> | undefined
  /** The schema of replies, and of each value of a streamed reply. A call resolves with the value that it returns. */
  replies?: Schema<R> | undefined
  /** The schema of the messages of connections, as for a server. */
  messages?: StandardSchema<S, M> | undefined
  /**
   * Which of several instances a call goes to, `'first'` by default. With `'first'` the client connects to one instance, and to
   * another one only when that is gone: there is no second `'connected'` while it lives, unless that one is remote and there is one on
   * this bus now. The others connect to all. Each of them takes a remote instance (`service.origin`) only while there is none on this bus.
   * `'primary'` follows the primary of a service group, and sends again what was certainly not handled.
   */
  route?: Route | undefined
  /** The `id` of the one instance to connect to. By default all instances of the name are looked at. */
  instance?: string | undefined
  /** Milliseconds for each call without a `timeout` of its own. By default, and with 0, without a limit. Not for streams. */
  timeout?: number | undefined
  /** How to try again when connecting fails, or when a connection fails although its server lives. */
  reconnect?: ReconnectOptions | undefined
  /**
   * Forces a rung of the acquisition ladder. Here `'direct'` means the handshake, because the handshake makes the rings
   * of a channel.
   */
  acquire?: Rung | 'auto' | undefined
}

/** How to call a handler that answers with a stream. */
export interface StreamOptions extends HeadersOption, SignalOptions {
  /**
   * The `id` of the one instance that may answer. Until it is connected (with `route: 'primary'`: until it is primary) the call waits.
   * With the default route the client connects to one instance only.
   */
  instance?: string | undefined
}

export interface CallOptions extends StreamOptions {
  /** Milliseconds until the call fails with `ERR_RINGBELL_TIMEOUT`, and the handler's signal fires; 0: never. */
  timeout?: number | undefined
  /** Handling it twice does no harm. If its server is gone and the outcome is unknown, the call is made again, up to 3 times. */
  idempotent?: boolean | undefined
  /** Memory for the bytes of the reply, with the codec `bytes`. The returned value is a view of it. */
  into?: Uint8Array | undefined
}

/** How to close a server. */
export interface CloseOptions {
  /** Milliseconds that pending work has to end, 0 by default. Nothing new is accepted meanwhile. */
  grace?: number | undefined
}

/** How a queue keeps its messages, and who may work for it. `T`: what `push` takes. `C`: what the codec takes. */
export interface QueueOptions<T = Uint8Array, C = T> extends Description, ChannelOptions {
  /** How messages become bytes. Workers must have the same codec. */
  codec?: CodecOption<C> | undefined
  /** The schema of messages: any Standard Schema that answers at once. It checks what `push` and `run` get, which is sent as given. */
  schema?: InputSchema<T> | undefined
  /** The rungs that workers may use: `'handshake'`, `'stream'` or, by default, both. */
  offers?: Rung[] | undefined
  /** Bytes of each of the two rings of a worker: a power of two, 64 KiB by default. */
  capacity?: number | undefined
  /** The most workers at once, 1,024 by default. */
  maxConnections?: number | undefined
  /** Let workers of other users connect; by default only those of root may. */
  access?: Access | undefined
  /** The most messages without an acknowledgement, 65,536 by default. Then `push` returns `false`. */
  limit?: number | undefined
  /** Deliveries of one message before it counts as failed, 5 by default. */
  attempts?: number | undefined
  /**
   * Milliseconds that a worker may take for one message. After that the message goes to another worker. By default
   * without a limit.
   */
  timeout?: number | undefined
  /** Pauses between the attempts of a message, by default none. */
  backoff?: BackoffOptions | undefined
  /**
   * The most messages in `deadLetters`, 1,000 by default; with 0 none is kept. Together they have at most 64 MiB. The oldest ones are
   * dropped, and counted.
   */
  deadLetters?: number | undefined
}

/** What to send with a message, and when it may be assigned. */
export interface PushOptions extends HeadersOption {
  /** Milliseconds before a worker gets it, 0 by default, at most 2^31 - 1 (24 days). It counts for `limit` meanwhile. */
  delay?: number | undefined
}

export interface RunOptions extends PushOptions, SignalOptions {}

/** What to send with a message of a connection. */
export interface MessageOptions extends HeadersOption {}

/** What to send with a message of a connection, and how long to wait. */
export interface MessageWriteOptions extends MessageOptions, SignalOptions {}

/** How a worker works, and for which queues. `T`: what its handler gets. `C`: what the codec returns. */
export interface WorkerOptions<T = Uint8Array, C = T> extends ChannelOptions, RingOptions {
  /** The expected codec. The worker does not connect to a queue with another one (`'failed'`). */
  codec?: CodecOption<C> | undefined
  /**
   * The schema of messages: any Standard Schema. The handler gets the value that it returns. A message that does not match goes back
   * to the queue, as if the handler had thrown.
   */
  schema?: Schema<T> | undefined
  /** The expected id of the schema. The worker does not connect to a queue with another one (`'failed'`). */
  schemaId?: string | undefined
  /**
   * Messages at once from each queue, 1 by default. A queue assigns so many before the first is acknowledged. One that sends more is
   * disconnected (`'failed'`).
   */
  concurrency?: number | undefined
  /** How to try again when connecting fails, or when a connection fails although its queue lives. */
  reconnect?: ReconnectOptions | undefined
  /** Forces a rung of the acquisition ladder. */
  acquire?: Rung | 'auto' | undefined
}

/** The kinds in the records. */
export const SERVER_KIND = 'server'
export const QUEUE_KIND = 'queue'

export const DEFAULT_MAX_MESSAGE = 64 * 2 ** 20
export const DEFAULT_MAX_REQUESTS = 65_536
export const DEFAULT_LIMIT = 65_536
export const DEFAULT_ATTEMPTS = 5
export const DEFAULT_DEAD_LETTERS = 1000

const COUNT = integer(1, 2 ** 24)
const TIME = duration(0, LONGEST_MS, 'milliseconds')
const CHANNEL: Rules = { wait: checkWait, maxMessage: integer(1, 2 ** 30), codec: anything }
/** Headers are checked when they become bytes. */
const MESSAGE: Rules = { headers: anything }
const MESSAGE_WRITE: Rules = { ...MESSAGE, signal }
const PUSH: Rules = { ...MESSAGE, delay: TIME }
const RUN: Rules = { ...PUSH, signal }
const CALLS: Rules = {
  ...CHANNEL,
  schemaId,
  // The core has an option of that name: the id.
  schema: notHere('its schemas are requests, replies and messages, an id is schemaId'),
  requests: standardSchema,
  replies: standardSchema,
  messages: standardSchema,
}
const WORK: Rules = { ...CHANNEL, schemaId, schema: standardSchema, ...NOT_OF_CALLS }
/** The core has an option of that name. */
const group = notHere('it is what a member says of itself: use member')
const SERVE: Rules = { ...CALLS, maxRequests: COUNT, member, group }
const QUEUE: Rules = {
  ...WORK,
  group,
  limit: COUNT,
  attempts: integer(1, 2 ** 20),
  timeout: TIME,
  backoff,
  deadLetters: integer(0, 2 ** 24),
}
const CONNECT: Rules = {
  ...CALLS,
  reconnect,
  route: oneOf('first', 'round-robin', 'least-busy', 'primary'),
  instance: text(64),
  timeout: TIME,
}
const WORKER: Rules = { ...WORK, reconnect, concurrency: integer(1, 65_536) }
const STREAM: Rules = { ...MESSAGE, signal, instance: text(64) }
const CALL: Rules = { ...STREAM, timeout: TIME, idempotent: flag, into: bytesOnly }
const SERVER_STATS: Rules = { signal, timeout: TIME, connection: anything }
const CLOSE: Rules = { grace: TIME }
const MOST_FDS = 16
const MOST_FD_DATA = 32_768

export function serveJson(options: ServeOptions<unknown, unknown>, codecId: string): string {
  return coreJson(options, SERVE, ({ schemaId: schema, member }) => ({ codec: codecId, schema, group: roleOf(member) }))
}

export function queueJson(options: QueueOptions<unknown>, codecId: string): string {
  return coreJson(options, QUEUE, ({ schemaId: schema }) => ({ codec: codecId, schema }))
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

export function checkStream(options: StreamOptions): void {
  check(options, STREAM)
}

export function checkPush(options: PushOptions): void {
  check(options, PUSH)
}

export function checkRun(options: RunOptions): void {
  check(options, RUN)
}

export function checkMessage(options: MessageOptions): void {
  check(options, MESSAGE)
}

export function checkMessageWrite(options: MessageWriteOptions): void {
  check(options, MESSAGE_WRITE)
}

export function checkServerStats(options: object): void {
  check(options, SERVER_STATS)
}

export function checkClose(options: object): void {
  check(options, CLOSE)
}

const DESCRIPTOR = integer(0, 2 ** 31 - 1)

export function checkFds(data: unknown, fds: unknown): void {
  if (!isBytes(data) || data.byteLength > MOST_FD_DATA)
    throw invalid('data', data, `must be a Uint8Array of at most ${MOST_FD_DATA} bytes`)
  if (!Array.isArray(fds) || fds.length === 0 || fds.length > MOST_FDS)
    throw invalid('fds', fds, `must be a list of 1 to ${MOST_FDS} file descriptors`)
  for (const [at, fd] of fds.entries()) {
    const broken = DESCRIPTOR(fd)
    if (broken !== undefined) throw invalid(`fds[${at}]`, fd, broken)
  }
}
