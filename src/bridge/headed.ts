/**
 * Headers of messages, calls and replies on their way to another bus. What has some is marked, and begins with them: their length (16
 * bits), and then their bytes as docs/protocol.md has them. What has none carries nothing for them.
 *
 * Programs on this bus and bridges of others may write anything there. Headers that make no sense are left out and counted; nothing
 * here throws.
 */
import { Buffer } from 'node:buffer'
import { EMPTY } from '../codec/bytes.js'
import { debug } from '../diagnostics.js'
import { decodeHeaders, encodeHeaders, type MessageHeaders, NO_HEADERS } from '../headers.js'
import { HEADED } from './wire.js'

/** Counts what makes no sense. */
export interface Counting {
  wrong(): void
}

/** Something that came, and its headers; `undefined`: it has none. */
export interface Headed {
  readonly headers: MessageHeaders | undefined
  readonly data: Buffer
  /** Bytes of both. */
  readonly size: number
}

const LENGTH_BYTES = 2

/** What goes before the data of these headers. Nothing: there are none. */
export function blockOf(headers: MessageHeaders, host: Counting): Uint8Array {
  if (headers === NO_HEADERS) return EMPTY
  const bytes = encoded(headers)
  if (bytes === undefined || bytes.byteLength === 0) {
    host.wrong()
    return EMPTY
  }
  const block = Buffer.allocUnsafe(LENGTH_BYTES + bytes.byteLength)
  block.writeUInt16LE(bytes.byteLength)
  block.set(bytes, LENGTH_BYTES)
  return block
}

/** The flag of a call or a reply that begins with this block. */
export function flagOf(block: Uint8Array): number {
  return block.byteLength === 0 ? 0 : HEADED
}

/** Takes the headers off; `undefined`: it is shorter than it says. Both are counted. */
export function headedOf(marked: boolean, bytes: Buffer, host: Counting): Headed | undefined {
  if (!marked) return { headers: undefined, data: bytes, size: bytes.byteLength }
  const from = bytes.byteLength < LENGTH_BYTES ? Infinity : LENGTH_BYTES + bytes.readUInt16LE()
  if (from > bytes.byteLength) {
    host.wrong()
    return undefined
  }
  const block = bytes.subarray(LENGTH_BYTES, from)
  const headers = decodeHeaders(block)
  // Only what could be sent from here counts: names, values, sizes and the number of headers are as everywhere, and none comes twice.
  const right = block.byteLength > 0 && encoded(headers)
  const data = bytes.subarray(from)
  if (right && block.equals(right)) return { headers, data, size: block.byteLength + data.byteLength }
  host.wrong()
  return { headers: undefined, data, size: data.byteLength }
}

function encoded(headers: MessageHeaders): Uint8Array | undefined {
  try {
    return encodeHeaders(headers)
  } catch (error) {
    debug('a bridge leaves headers out: %s', error)
    return undefined
  }
}
