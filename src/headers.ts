/**
 * The headers of a message: a small map of strings that travels behind its payload. Here they become bytes and bytes become
 * them; docs/protocol.md has the form. Topics and channels send and receive them. What is sent is checked. What comes was
 * written by a peer and may be anything: it is read up to the first header that makes no sense, and reading never throws.
 */
import { Buffer } from 'node:buffer'
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
const LONGEST_NAME = 256
/** Bytes before each name and value: the length of both. */
const LENGTHS = 4

/** 1 for each character of a name. */
const OF_NAMES = new Uint8Array(128)
for (const char of "abcdefghijklmnopqrstuvwxyz0123456789!#$%&'*+-.^_`|~") OF_NAMES[char.charCodeAt(0)] = 1

const TAB = 9
const SPACE = 32
const DELETE = 127

/**
 * Bytes into which headers are written. It remembers what it has written last, so headers that are sent again and again are
 * written once. An object whose strings have changed is written again.
 */
export class HeaderTable {
  readonly #bytes: Uint8Array
  #names: string[] = []
  #values: string[] = []
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
    this.#forget()
    if (typeof headers !== 'object' || headers === null || Array.isArray(headers))
      throw invalid('headers', headers, 'must be an object of strings')
    let at = 0
    for (const [name, value] of Object.entries(headers)) {
      if (value === undefined) continue
      if (this.#names.length === MOST_HEADERS) throw this.#wrong(headers, `must have at most ${MOST_HEADERS} headers`)
      at = this.#put(name, value, at, headers)
      this.#names.push(name)
      this.#values.push(value)
    }
    return (this.#size = at)
  }

  /** Puts bytes there that were written before. */
  load(bytes: Uint8Array): void {
    this.#forget()
    this.#bytes.set(bytes)
  }

  /** A copy of what is written. */
  written(headers: MessageHeaders): Uint8Array {
    return this.#bytes.slice(0, this.write(headers))
  }

  #has(headers: MessageHeaders): boolean {
    const { length } = this.#names
    if (length === 0) return false
    let index = 0
    for (const name in headers) {
      if (name !== this.#names[index] || headers[name] !== this.#values[index]) return false
      index++
    }
    return index === length
  }

  #forget(): void {
    this.#names = []
    this.#values = []
    this.#size = 0
  }

  #put(name: string, value: unknown, at: number, headers: MessageHeaders): number {
    const bytes = this.#bytes
    const { length } = name
    if (length === 0 || length > LONGEST_NAME) throw this.#wrong(name, NAME_RULE)
    if (typeof value !== 'string') throw this.#wrong(value, `must be a string`, name)
    // A character has one byte at least. The bytes of others are counted when they are written.
    if (at + LENGTHS + length + value.length > MOST_HEADER_BYTES) throw this.#wrong(headers, SIZE_RULE)
    const from = at + LENGTHS
    for (let index = 0; index < length; index++) {
      const code = name.charCodeAt(index)
      if (OF_NAMES[code] !== 1) throw this.#wrong(name, NAME_RULE)
      bytes[from + index] = code
    }
    const begin = from + length
    const size = this.#putValue(value, begin, name)
    if (size < 0) throw this.#wrong(headers, SIZE_RULE)
    bytes[at] = length
    bytes[at + 1] = length >>> 8
    bytes[at + 2] = size
    bytes[at + 3] = size >>> 8
    return begin + size
  }

  /** Returns how many bytes it takes; -1 if there is no room for them. */
  #putValue(value: string, begin: number, name: string): number {
    const bytes = this.#bytes
    const { length } = value
    let more = false
    for (let index = 0; index < length; index++) {
      const code = value.charCodeAt(index)
      if ((code < SPACE && code !== TAB) || code === DELETE)
        throw this.#wrong(value, 'must have no control characters', name)
      if (code > DELETE) more = true
      bytes[begin + index] = code
    }
    if (!more) return length
    const text = Buffer.from(value)
    if (begin + text.byteLength > MOST_HEADER_BYTES) return -1
    bytes.set(text, begin)
    return text.byteLength
  }

  #wrong(value: unknown, rule: string, name?: string): Error {
    this.#forget()
    return invalid(name === undefined ? 'headers' : `headers[${JSON.stringify(name)}]`, value, rule)
  }
}

const NAME_RULE = "must have names of 1 to 256 characters: a to z, 0 to 9 and !#$%&'*+-.^_`|~"
const SIZE_RULE = `must take at most ${MOST_HEADER_BYTES} bytes together`

let table: HeaderTable | undefined

/**
 * The bytes of headers.
 *
 * @throws {RingbellError} `ERR_RINGBELL_INVALID_OPTION`.
 */
export function encodeHeaders(headers: MessageHeaders): Uint8Array {
  table ??= new HeaderTable(new Uint8Array(MOST_HEADER_BYTES))
  return table.written(headers)
}

/** What these bytes say. They are copied first: they may lie in memory that a peer can write. */
export function decodeHeaders(bytes: Uint8Array): MessageHeaders {
  if (bytes.byteLength === 0) return NO_HEADERS
  const copy = Buffer.from(bytes)
  const headers = Object.create(null) as Record<string, string>
  for (let at = 0; at + LENGTHS <= copy.byteLength;) {
    const value = at + LENGTHS + copy.readUInt16LE(at)
    const end = value + copy.readUInt16LE(at + 2)
    if (value === at + LENGTHS || end > copy.byteLength) break
    headers[copy.toString('utf8', at + LENGTHS, value)] = copy.toString('utf8', value, end)
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
