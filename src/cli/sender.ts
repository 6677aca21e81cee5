/**
 * Sends messages as fast as the ring, and the rate if there is one, allow. Everything without headers goes through one batch writer.
 * The messages at hand are committed together, and always before a wait. On a `block` topic a message that finds no
 * room is sent again, and one that is too large for the ring goes in pieces. `drop-newest` drops and counts a message
 * that finds no room.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { BatchWriter, Codec, MessageHeaders, Overflow, Publisher } from '../index.js'
import { LARGEST, type Limit } from './splitter.js'

/** How to send. */
export interface SenderOptions {
  readonly overflow?: Overflow | undefined
  /** Messages a second. */
  readonly rate?: number | undefined
  /** The headers of each message. */
  readonly header?: MessageHeaders | undefined
}

export class Sender {
  messages = 0
  bytes = 0
  dropped = 0
  /** The largest message that can be sent. */
  readonly limit: Limit
  readonly #publisher: Publisher
  readonly #codec: Codec<Uint8Array>
  readonly #writer: BatchWriter
  readonly #headers: MessageHeaders | undefined
  readonly #waits: boolean
  readonly #pause: number
  readonly #signal: AbortSignal
  /** When the next message is due under a rate, in ms. */
  #due = 0

  constructor(
    publisher: Publisher,
    codec: Codec<Uint8Array>,
    { overflow = 'block', rate, header }: SenderOptions,
    signal: AbortSignal,
  ) {
    this.#publisher = publisher
    this.#codec = codec
    // Only on a `block` topic can a message go in pieces.
    this.limit =
      overflow === 'block'
        ? LARGEST
        : { bytes: publisher.maxMessage, why: `that this ring takes under ${overflow}; raise --capacity` }
    this.#writer = publisher.batch()
    this.#headers = header
    this.#waits = overflow !== 'drop-newest'
    this.#pause = rate === undefined ? 0 : 1000 / rate
    this.#signal = signal
  }

  /** Resolves when all are committed (or dropped). */
  async send(messages: Iterable<Uint8Array>): Promise<void> {
    const writer = this.#writer
    try {
      for (const text of messages) {
        const message = this.#codec.encode(text)
        if (this.#pause > 0) await this.#turn()
        if (this.#headers !== undefined) {
          if (!(await this.#sendAlone(text, this.#headers))) {
            this.dropped++
            continue
          }
        } else if (message.byteLength > this.#publisher.maxMessage && this.limit === LARGEST) {
          writer.commit()
          await this.#publisher.write(text, { signal: this.#signal })
        } else if (!writer.push(message)) {
          if (!this.#waits) {
            this.dropped++
            continue
          }
          do await this.#publisher.ready({ signal: this.#signal })
          while (!writer.push(message))
        }
        this.messages++
        this.bytes += message.byteLength
      }
    } finally {
      // Also commits the messages before one that is too large.
      if (!this.#publisher.closed) writer.commit()
    }
  }

  /** A batch has no headers. `false`: the message was dropped. */
  async #sendAlone(text: Uint8Array, headers: MessageHeaders): Promise<boolean> {
    if (!this.#waits) return this.#publisher.send(text, { headers })
    await this.#publisher.write(text, { headers, signal: this.#signal })
    return true
  }

  /** Waits until the next message is due. */
  async #turn(): Promise<void> {
    const now = performance.now()
    const due = Math.max(this.#due, now - COARSE_MS)
    this.#due = due + this.#pause
    if (due <= now) return
    this.#writer.commit()
    await sleep(Math.ceil(due - now), undefined, { signal: this.#signal })
  }
}

/** Timers are late by about this much. A delay up to that is made up for, and no more. */
const COARSE_MS = 2
