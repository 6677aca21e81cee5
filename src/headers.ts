/**
 * The headers of a message: a small map of strings that travels behind its payload. Here they become bytes and bytes become
 * them; docs/protocol.md has the form. Topics and channels send and receive them. What is sent is checked. What comes was
 * written by a peer and may be anything: it is read up to the first header that makes no sense, and reading never throws.
 */
import { Buffer, isUtf8 } from 'node:buffer'
import { invalid } from './invalid.js'

/**
 * The headers of a message. A name has 1 to 256 characters, those of HTTP's header names in lower case. A value is text without
 * control characters, but for the tab. There are at most 64, and at most 8,192 bytes of them: names and values in UTF-8, and 4 bytes
 * for each. What is `undefined` is not sent. Received headers are a frozen object without a prototype.
 */
export type MessageHeaders = Readonly<Record<string, string | undefined>>

/** Headers of a message that is sent. */
export interface HeadersOption {
  /** Small text that travels with the message: {@link MessageHeaders}. */
  headers?: MessageHeaders | undefined
}

/** What came, and the headers that came with it. */
export interface Envelope<V> {
  /** The value, as the codec has decoded it. */
  readonly value: V
  /** Its headers; an empty object if there are none. */
  readonly headers: MessageHeaders
}

/** Of a message that has none. */
export const NO_HEADERS: MessageHeaders = Object.freeze(Object.create(null) as MessageHeaders)

export const MOST_HEADERS = 64
export const MOST_HEADER_BYTES = 8192
/** Bytes before each name and value: the length of both. */
const LENGTHS = 4

/** A name that may be sent. */
export const NAME = /^[a-z0-9!#$%&'*+\-.^_`|~]{1,256}$/
/** Control characters but for the tab. */
// oxlint-disable-next-line no-control-regex
const CONTROL = /[\0-\x08\x0a-\x1f\x7f]/
const NAME_RULE = "must have names of 1 to 256 characters: a to z, 0 to 9 and !#$%&'*+-.^_`|~"
const SIZE_RULE = `must take at most ${MOST_HEADER_BYTES} bytes together`

const encoder = new TextEncoder()

/** A header that is in a table. */
interface Written {
  readonly name: string
  value: string
  /** Where it begins. */
  readonly at: number
  /** Where its value begins. */
  readonly begin: number
  /** The table from there on. */
  readonly rest: Uint8Array
  /** Where it ends. */
  end: number
}

/**
 * Bytes into which headers are written. It remembers what it has written last: what is sent again with other values, or with the
 * same ones, is not written again as far as it is the same.
 */
export class HeaderTable {
  readonly #bytes: Uint8Array
  #written: Written[] = []
  #size = 0

  /** `bytes`: room for `MOST_HEADER_BYTES`. */
  constructor(bytes: Uint8Array) {
    this.#bytes = bytes
  }

  /**
   * Writes them to the start of the table, and returns how many bytes they take.
   *
   * @throws {RingbellError} `ERR_RINGBELL_INVALID_OPTION`.
   */
  write(headers: MessageHeaders): number {
    if (this.#has(headers)) return this.#size
    if (typeof headers !== 'object' || headers === null || Array.isArray(headers))
      throw invalid('headers', headers, 'must be an object of strings')
    const written = this.#written
    let count = 0
    let at = 0
    try {
      for (const name in headers) {
        const value = headers[name]
        if (value === undefined || !Object.hasOwn(headers, name)) continue
        const last = written[count]
        if (last?.name !== name || last.at !== at) written[count] = this.#begin(name, at, headers, count)
        const one = written[count] as Written
        if (one.value !== value) this.#setValue(one, value, headers)
        at = one.end
        count++
      }
    } catch (error) {
      this.#written = []
      throw error
    }
    // What lies behind may be overwritten by what comes next.
    written.length = count
    return (this.#size = at)
  }

  /** Puts bytes there that were written before. */
  load(bytes: Uint8Array): void {
    this.#written = []
    this.#bytes.set(bytes)
  }

  /** A copy of what is written. */
  encoded(headers: MessageHeaders): Uint8Array {
    return this.#bytes.slice(0, this.write(headers))
  }

  /** Whether the table holds just these: cheaper than to look for the first that differs. */
  #has(headers: MessageHeaders): boolean {
    const written = this.#written
    let index = 0
    for (const name in headers) {
      const one = written[index++]
      if (one === undefined || one.name !== name || one.value !== headers[name]) return false
    }
    return index > 0 && index === written.length
  }

  /** Writes the name. The value is empty so far. */
  #begin(name: string, at: number, headers: MessageHeaders, count: number): Written {
    if (!NAME.test(name)) throw invalid('headers', name, NAME_RULE)
    if (count === MOST_HEADERS) throw invalid('headers', headers, `must have at most ${MOST_HEADERS} headers`)
    const begin = at + LENGTHS
    const end = begin + name.length
    if (end > MOST_HEADER_BYTES) throw invalid('headers', headers, SIZE_RULE)
    const bytes = this.#bytes
    encoder.encodeInto(name, bytes.subarray(begin))
    bytes.set([name.length, name.length >>> 8, 0, 0], at)
    return { name, value: '', at, begin: end, rest: bytes.subarray(end, MOST_HEADER_BYTES), end }
  }

  #setValue(one: Written, value: unknown, headers: MessageHeaders): void {
    if (typeof value !== 'string') throw invalid(pathOf(one), value, 'must be a string')
    if (CONTROL.test(value)) throw invalid(pathOf(one), value, 'must have no control characters')
    const { read, written } = encoder.encodeInto(value, one.rest)
    if (read < value.length) throw invalid('headers', headers, SIZE_RULE)
    this.#bytes[one.at + 2] = written
    this.#bytes[one.at + 3] = written >>> 8
    one.value = value
    one.end = one.begin + written
  }
}

function pathOf({ name }: Written): string {
  return `headers[${JSON.stringify(name)}]`
}

let table: HeaderTable | undefined

/**
 * The bytes of headers.
 *
 * @throws {RingbellError} `ERR_RINGBELL_INVALID_OPTION`.
 */
export function encodeHeaders(headers: MessageHeaders): Uint8Array {
  table ??= new HeaderTable(new Uint8Array(MOST_HEADER_BYTES))
  return table.encoded(headers)
}

/**
 * What these bytes say, by the rules of a reader in docs/protocol.md. They are copied first: they may lie in memory that a peer can
 * write.
 */
export function decodeHeaders(bytes: Uint8Array): MessageHeaders {
  if (bytes.byteLength === 0) return NO_HEADERS
  const copy = Buffer.from(bytes)
  const headers = Object.create(null) as Record<string, string>
  for (let at = 0, count = 0; at + LENGTHS <= copy.byteLength && count < MOST_HEADERS; count++) {
    const value = at + LENGTHS + copy.readUInt16LE(at)
    const end = value + copy.readUInt16LE(at + 2)
    if (value === at + LENGTHS || end > copy.byteLength) break
    if (!isUtf8(copy.subarray(at + LENGTHS, value)) || !isUtf8(copy.subarray(value, end))) break
    // Of a name that comes twice, the first counts.
    headers[copy.toString('utf8', at + LENGTHS, value)] ??= copy.toString('utf8', value, end)
    at = end
  }
  return Object.freeze(headers)
}

/** The headers that lie behind a message, as many bytes as its frame says. */
export function headersBehind(data: Uint8Array, size: number): MessageHeaders {
  return size === 0 ? NO_HEADERS : decodeHeaders(behind(data, size))
}

/** The bytes behind a message that was copied out of a ring together with them. */
export function behind(data: Uint8Array, size: number): Uint8Array {
  return new Uint8Array(data.buffer, data.byteOffset + data.byteLength, size)
}
