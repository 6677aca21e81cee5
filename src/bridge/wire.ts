/**
 * What bridges say to each other. Each bridge has one NATS subject of its own, its inbox, and there is one subject on which all of them
 * say that they live. A packet is a head of 18 bytes, and a body: JSON, the bytes of a call, or the messages of a topic.
 *
 * Anybody who may publish on these subjects can send anything, so every read is checked, and a wrong packet is dropped and counted.
 *
 * A message, call or reply with headers is marked, and begins with them (headed.ts): a call after the id of the instance.
 */
import { Buffer } from 'node:buffer'

export const PACKET = {
  /** To all: I live. Body: `Beat`. */
  beat: 1,
  /** To all: I am gone. */
  bye: 2,
  /** Tell me what you have. */
  ask: 3,
  /** A part of what the sender has. `a`: its revision; `b`: this part's number and the number of parts (16 bits each). Body: `Entry[]`. */
  list: 4,
  /** All streams that the sender wants of the receiver. Body: `Wish[]`. It is repeated, so that a lost one does no harm. */
  want: 5,
  /** Messages. `a`: the stream; `b`: the number of this packet, from 1. Body: sequence of the first message, then length, mark and bytes of each. */
  data: 6,
  /** Messages up to packet `b` of stream `a` are written. */
  taken: 7,
  /** A call. `a`: its number; `b`: its timeout. Body: id of the instance, request. */
  call: 8,
  /** The answer to call `a`; so are the next four. */
  reply: 9,
  error: 10,
  chunk: 11,
  end: 12,
  /** The caller of `a` has given up. */
  cancel: 13,
  /** `b` more chunks of `a` may be sent. */
  credit: 14,
} as const

/** Flag of a call: a stream is wanted. */
export const STREAMED = 1
/** Flag of a reply: the handler returned nothing. */
export const NOTHING = 1
/** Flag of a call and of a reply: it begins with its headers. */
export const HEADED = 2

/** Who lives, and for how long without another beat. */
export interface Beat {
  /** The host name. */
  readonly host: string
  /** Milliseconds. */
  readonly lease: number
  /** It grows with each change of what it has. */
  readonly revision: number
  /** It grows with each new connection to NATS, because what was under way may be lost. */
  readonly connection: number
}

/** An instance that a bridge offers. */
export interface Entry {
  readonly id: string
  readonly name: string
  readonly kind: 'topic' | 'server'
  readonly codec?: string
  readonly schemaId?: string
  readonly metadata?: Record<string, unknown>
  readonly endpoints?: Record<string, string>
  readonly topic?: {
    readonly capacity: number
    readonly overflow: 'block' | 'drop-oldest' | 'drop-newest'
    readonly maxSubscribers: number
    readonly evictAfter?: number
  }
}

/** A stream of messages that a bridge wants. */
export interface Wish {
  /** Its number, chosen by the one who wants it. A stream that broke off is wanted again under another number. */
  readonly stream: number
  /** The instance of the publisher. */
  readonly id: string
  /** The sequence after which it begins; -1: with the next message. */
  readonly after: number
  /** The last packet that came, and the last that is written. */
  readonly got: number
  readonly taken: number
}

export interface Packet {
  readonly type: number
  readonly flags: number
  /** The bridge that sent it. */
  readonly from: string
  readonly a: number
  readonly b: number
  readonly body: Buffer
}

const BUS_BYTES = 8
const A_AT = 2 + BUS_BYTES
const B_AT = A_AT + 4
export const HEAD_BYTES = B_AT + 4
export const ID_BYTES = 16
/** Before the first message: its sequence. Before each message: its length. */
export const SEQUENCE_BYTES = 8
export const LENGTH_BYTES = 4
/** The mark of a message that begins with its headers; the other bits are its length, headers included. */
const MARK = 0x8000_0000

/** A packet of this many bytes of body, which the caller fills from `HEAD_BYTES` on. */
export function packet(type: number, from: Buffer, bytes: number, a = 0, b = 0, flags = 0): Buffer {
  const packed = Buffer.allocUnsafe(HEAD_BYTES + bytes)
  packed[0] = type
  packed[1] = flags
  from.copy(packed, 2)
  packed.writeUInt32LE(a, A_AT)
  packed.writeUInt32LE(b, B_AT)
  return packed
}

export function withBody(type: number, from: Buffer, body: Uint8Array, a = 0, b = 0, flags = 0): Buffer {
  const packed = packet(type, from, body.byteLength, a, b, flags)
  packed.set(body, HEAD_BYTES)
  return packed
}

export function withJson(type: number, from: Buffer, value: unknown, a = 0, b = 0): Buffer {
  return withBody(type, from, Buffer.from(JSON.stringify(value)), a, b)
}

/** Another number for the same packet, which is sent again. */
export function renumber(packed: Buffer, a: number, b: number): void {
  packed.writeUInt32LE(a, A_AT)
  packed.writeUInt32LE(b, B_AT)
}

/** `undefined`: it is none. */
export function unpack(data: Uint8Array): Packet | undefined {
  if (data.byteLength < HEAD_BYTES) return undefined
  const bytes = Buffer.from(data.buffer, data.byteOffset, data.byteLength)
  return {
    type: bytes[0] as number,
    flags: bytes[1] as number,
    from: bytes.toString('hex', 2, A_AT),
    a: bytes.readUInt32LE(A_AT),
    b: bytes.readUInt32LE(B_AT),
    body: bytes.subarray(HEAD_BYTES),
  }
}

export function writeLength(packed: Buffer, length: number, marked: boolean, at: number): void {
  packed.writeUInt32LE(marked ? length + MARK : length, at)
}

/** The length of the message that begins here. */
export function lengthAt(body: Buffer, at: number): number {
  return body.readUInt32LE(at) % MARK
}

export function isMarkedAt(body: Buffer, at: number): boolean {
  return body.readUInt32LE(at) >= MARK
}

/** @throws if it is no JSON. */
export function jsonOf({ body }: Packet): unknown {
  return JSON.parse(body.toString('utf8')) as unknown
}

/** What a host name may have in it: it is shown in terminals. */
const HOST = /^[A-Za-z0-9._-]{1,255}$/
const OVERFLOWS = new Set<unknown>(['block', 'drop-oldest', 'drop-newest'])
/** Mirrors of larger rings are smaller. */
const MOST_CAPACITY = 64 * 2 ** 20

/** What a peer says of an instance, checked; `undefined`: it is nonsense. */
export function entryOf(value: unknown): Entry | undefined {
  const { id, name, kind, codec, schemaId, metadata, endpoints, topic } = objectOf(value)
  if (typeof id !== 'string' || !/^[0-9a-f]{32}$/.test(id)) return undefined
  if (typeof name !== 'string' || !/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/.test(name)) return undefined
  if (kind !== 'topic' && kind !== 'server') return undefined
  const ring = kind === 'topic' ? ringOf(topic) : undefined
  if (kind === 'topic' && ring === undefined) return undefined
  return {
    id,
    name,
    kind,
    ...(typeof codec === 'string' ? { codec } : {}),
    ...(typeof schemaId === 'string' ? { schemaId } : {}),
    metadata: objectOf(metadata),
    endpoints: textsOf(endpoints),
    ...(ring === undefined ? {} : { topic: ring }),
  }
}

function ringOf(value: unknown): Entry['topic'] {
  const { capacity, overflow, maxSubscribers, evictAfter } = objectOf(value)
  if (!OVERFLOWS.has(overflow) || !isCount(capacity) || !isCount(maxSubscribers)) return undefined
  return {
    capacity: Math.min(capacity, MOST_CAPACITY),
    overflow: overflow as 'block',
    maxSubscribers,
    ...(isCount(evictAfter) && overflow === 'block' ? { evictAfter } : {}),
  }
}

export function wishOf(value: unknown): Wish | undefined {
  const { stream, id, after, got, taken } = objectOf(value)
  if (
    !isCount(stream) ||
    stream >= 2 ** 32 ||
    typeof id !== 'string' ||
    ![after, got, taken].every(Number.isSafeInteger)
  )
    return undefined
  return { stream, id, after: after as number, got: got as number, taken: taken as number }
}

export function beatOf(value: unknown): Beat | undefined {
  const { host, lease, revision, connection } = objectOf(value)
  if (typeof host !== 'string' || !HOST.test(host)) return undefined
  if (!isCount(lease) || !isCount(revision) || !isCount(connection)) return undefined
  return { host, lease: Math.min(lease, 2 ** 31 - 1), revision, connection }
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) > 0
}

function objectOf(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : {}
}

function textsOf(value: unknown): Record<string, string> {
  return Object.fromEntries(
    Object.entries(objectOf(value)).filter((field): field is [string, string] => typeof field[1] === 'string'),
  )
}
