/**
 * Messages as bytes for stdout: lines, length-prefixed frames, or lines of JSON. Each batch is one buffer and one write.
 * Lines and JSON show text (payloads.ts); frames have the bytes as they came.
 */
import type { Batch, Codec, Subscriber } from '../index.js'
import { structured } from '../index.js'
import { clock } from './figures.js'
import { headerField, shownHeaders } from './headers.js'
import { payloadFields, shellCodec } from './payloads.js'

export interface Format {
  readonly kind: 'lines' | 'frames' | 'json'
  /** Whether each line begins with the wall clock and the topic. */
  readonly prefix: boolean
}

/** The first `count` messages of a batch. */
export type Render = (batch: Batch, count: number) => Uint8Array | string

const NEWLINE = 0x0a
const PREFIX = 4
const NS_PER_MS = 1_000_000n

export function renderer({ kind, prefix }: Format, subscriber: Subscriber): Render {
  if (kind === 'frames') return frames
  const codecs = new Codecs(subscriber)
  if (kind === 'json') return (batch, count) => json(batch, count, codecs.of(batch.publisher))
  return (batch, count) => {
    const codec = codecs.of(batch.publisher)
    return prefix || codec.id === structured.id ? shownLines(batch, count, codec, prefix) : lines(batch, count)
  }
}

/** The codec that each instance announces. */
class Codecs {
  readonly #codecs = new Map<string, Codec<Uint8Array>>()

  constructor(subscriber: Subscriber) {
    subscriber.on('attached', ({ service: { id, codec = 'bytes' } }) => this.#codecs.set(id, shellCodec(codec)))
    subscriber.on('ended', ({ service }) => this.#codecs.delete(service.id))
  }

  of(publisher: string): Codec<Uint8Array> {
    return this.#codecs.get(publisher) ?? BYTES
  }
}

const BYTES = shellCodec('bytes')

function lines(batch: Batch, count: number): Uint8Array {
  return copied(batch, count, 0, 1, (target, at) => (target[at] = NEWLINE))
}

function frames(batch: Batch, count: number): Uint8Array {
  return copied(batch, count, PREFIX, 0, (target, at, length) => target.writeUInt32LE(length, at - length - PREFIX))
}

/** Copies payloads with room before and after each. `mark` gets the end of each payload. */
function copied(
  batch: Batch,
  count: number,
  before: number,
  after: number,
  mark: (target: Buffer, at: number, length: number) => void,
): Uint8Array {
  let total = count * (before + after)
  for (let i = 0; i < count; i++) total += batch.byteLength(i)
  const target = Buffer.allocUnsafe(total)
  const { bytes } = batch
  let at = 0
  for (let i = 0; i < count; i++) {
    const offset = batch.offset(i)
    const length = batch.byteLength(i)
    at += before
    target.set(bytes.subarray(offset, offset + length), at)
    at += length
    mark(target, at, length)
    at += after
  }
  return target
}

function shownLines(batch: Batch, count: number, codec: Codec<Uint8Array>, prefix: boolean): Uint8Array {
  const pieces: Uint8Array[] = []
  const wall = wallClock()
  for (let i = 0; i < count; i++) {
    if (prefix) pieces.push(Buffer.from(`${clock(wall(batch.time(i)))}  ${batch.service}  ${headersOf(batch, i)}`))
    pieces.push(text(batch.data(i), codec), Buffer.of(NEWLINE))
  }
  return Buffer.concat(pieces)
}

function json(batch: Batch, count: number, codec: Codec<Uint8Array>): string {
  let lines = ''
  const wall = wallClock()
  for (let i = 0; i < count; i++) {
    const time = batch.time(i)
    const message = {
      topic: batch.service,
      publisher: batch.publisher,
      sequence: batch.sequence(i),
      // A JSON number would lose digits of the nanoseconds.
      time: String(time),
      at: wall(time),
      ...payloadFields(Buffer.from(text(batch.data(i), codec)), codec.id),
      ...headerField(batch.headers(i)),
    }
    lines += `${JSON.stringify(message)}\n`
  }
  return lines
}

/** The headers of a message in front of its text; nothing if it has none. */
function headersOf(batch: Batch, i: number): string {
  const shown = shownHeaders(batch.headers(i))
  return shown === '' ? '' : `[${shown}]  `
}

/** The text of a payload; the payload itself if the announced codec cannot decode it. */
function text(data: Uint8Array, codec: Codec<Uint8Array>): Uint8Array {
  try {
    return codec.decode(data)
  } catch {
    return data
  }
}

/** Converts times of CLOCK_MONOTONIC to the wall clock, by the present difference between the two. */
function wallClock(): (time: bigint) => Date {
  const now = BigInt(Date.now()) * NS_PER_MS
  const monotonic = process.hrtime.bigint()
  return (time) => new Date(Number((now - (monotonic - time)) / NS_PER_MS))
}
