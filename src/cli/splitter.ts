/**
 * Cuts a stream of bytes into messages: lines, frames that begin with their length (u32, little endian), or one message.
 * Chunks may end anywhere. A message is a view of its chunk if possible. The largest message limits the memory.
 */
import { CommandError } from './exit-codes.js'

/** How large a message may be. */
export interface Limit {
  readonly bytes: number
  /** The reason for the limit, and what to do. */
  readonly why: string
}

/** The limit of the protocol. */
export const LARGEST: Limit = { bytes: 2 ** 30, why: 'that any message may have' }

export interface Splitter {
  /** The messages that a chunk completes. */
  push(chunk: Uint8Array): Iterable<Uint8Array>
  /** The message that the end of the input completes. */
  end(): Uint8Array | undefined
}

const NEWLINE = 0x0a
const PREFIX = 4

/** Lines without their newline; the last one needs none. */
export class LineSplitter implements Splitter {
  readonly #limit: Limit
  #pieces: Uint8Array[] = []
  #held = 0
  #line = 1

  constructor(limit: Limit) {
    this.#limit = limit
  }

  *push(chunk: Uint8Array): Iterable<Uint8Array> {
    let from = 0
    for (let to = chunk.indexOf(NEWLINE); to !== -1; to = chunk.indexOf(NEWLINE, from)) {
      this.#check(this.#held + to - from)
      yield this.#held === 0 ? chunk.subarray(from, to) : this.#join(chunk.subarray(from, to))
      this.#line++
      from = to + 1
    }
    if (from === chunk.length) return
    this.#check(this.#held + chunk.length - from)
    this.#held += chunk.length - from
    this.#pieces.push(chunk.subarray(from))
  }

  end(): Uint8Array | undefined {
    return this.#held === 0 ? undefined : this.#join(new Uint8Array(0))
  }

  #join(last: Uint8Array): Uint8Array {
    const line = Buffer.concat([...this.#pieces, last])
    this.#pieces = []
    this.#held = 0
    return line
  }

  #check(length: number): void {
    if (length > this.#limit.bytes) throw tooLarge(`Line ${this.#line}`, this.#limit)
  }
}

export class FrameSplitter implements Splitter {
  readonly #limit: Limit
  #pieces: Uint8Array[] = []
  #held = 0
  /** Bytes that are needed next: a prefix, or a prefix and its message. */
  #needed = PREFIX
  #frame = 1

  constructor(limit: Limit) {
    this.#limit = limit
  }

  *push(chunk: Uint8Array): Iterable<Uint8Array> {
    this.#pieces.push(chunk)
    this.#held += chunk.length
    if (this.#held < this.#needed) return
    const bytes = Buffer.concat(this.#pieces)
    let at = 0
    this.#needed = PREFIX
    while (bytes.length - at >= PREFIX) {
      const length = bytes.readUInt32LE(at)
      if (length > this.#limit.bytes) throw tooLarge(`Frame ${this.#frame} says ${length} bytes, which`, this.#limit)
      this.#needed = PREFIX + length
      if (bytes.length - at < this.#needed) break
      yield bytes.subarray(at + PREFIX, at + this.#needed)
      at += this.#needed
      this.#frame++
      this.#needed = PREFIX
    }
    this.#held = bytes.length - at
    this.#pieces = this.#held === 0 ? [] : [bytes.subarray(at)]
  }

  end(): undefined {
    if (this.#held === 0) return
    throw new CommandError('ERR_TRUNCATED_INPUT', `The input ends in the middle of frame ${this.#frame}`)
  }
}

/** The whole input as one message, even if it is empty. */
export class WholeSplitter implements Splitter {
  readonly #limit: Limit
  readonly #pieces: Uint8Array[] = []
  #held = 0

  constructor(limit: Limit) {
    this.#limit = limit
  }

  push(chunk: Uint8Array): [] {
    this.#held += chunk.length
    if (this.#held > this.#limit.bytes) throw tooLarge('The input', this.#limit)
    this.#pieces.push(chunk)
    return []
  }

  end(): Uint8Array {
    return Buffer.concat(this.#pieces)
  }
}

function tooLarge(what: string, { bytes, why }: Limit): CommandError {
  return new CommandError('ERR_RINGBELL_MESSAGE_TOO_LARGE', `${what} is longer than the ${bytes} bytes ${why}`)
}
