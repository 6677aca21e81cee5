/** Messages as bytes for stdout: lines, length-prefixed frames, or lines of JSON. Each batch is one buffer and one write. */
import { isUtf8 } from 'node:buffer'
import type { Batch, Subscriber } from '../index.js'

export type Format = 'lines' | 'frames' | 'json'

/** The first `count` messages of a batch. */
export type Render = (batch: Batch, count: number) => Uint8Array | string

const NEWLINE = 0x0a
const PREFIX = 4

export function renderer(format: Format, subscriber: Subscriber): Render {
  if (format === 'json') return jsonRenderer(subscriber)
  return format === 'frames' ? frames : lines
}

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

function jsonRenderer(subscriber: Subscriber): Render {
  /** Whether an instance announces that it speaks JSON. */
  const speaksJson = new Map<string, boolean>()
  subscriber.on('attached', ({ service }) => speaksJson.set(service.id, service.codec === 'json'))
  subscriber.on('ended', ({ service }) => speaksJson.delete(service.id))
  return (batch, count) => {
    const isJson = speaksJson.get(batch.publisher) === true
    let text = ''
    for (let i = 0; i < count; i++) {
      const data = Buffer.from(batch.data(i))
      // A number: exact up to 104 days of uptime, to 2 ns in the years after.
      const time = Number(batch.time(i))
      const message = {
        topic: batch.service,
        publisher: batch.publisher,
        sequence: batch.sequence(i),
        time,
        ...payload(data, isJson),
      }
      text += `${JSON.stringify(message)}\n`
    }
    return text
  }
}

/** The value if it is JSON, the text if it is UTF-8, otherwise base64. */
export function payload(data: Buffer, isJson: boolean): { value: unknown } | { text: string } | { base64: string } {
  if (!isUtf8(data)) return { base64: data.toString('base64') }
  const text = data.toString('utf8')
  if (!isJson) return { text }
  try {
    return { value: JSON.parse(text) as unknown }
  } catch {
    return { text }
  }
}
