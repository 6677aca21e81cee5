/**
 * Sends messages as fast as the ring, and the rate if there is one, allow. Everything goes through one batch writer.
 * The messages at hand are committed together, and always before a wait. On a `block` topic a message that finds no
 * room is sent again; `drop-newest` drops and counts it.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { BatchWriter, Overflow, Publisher } from '../index.js'

export class Sender {
  messages = 0
  bytes = 0
  dropped = 0
  readonly #publisher: Publisher
  readonly #writer: BatchWriter
  readonly #waits: boolean
  readonly #pause: number
  readonly #signal: AbortSignal
  /** When the next message is due under a rate, in ms. */
  #due = 0

  constructor(publisher: Publisher, overflow: Overflow, rate: number | undefined, signal: AbortSignal) {
    this.#publisher = publisher
    this.#writer = publisher.batch()
    this.#waits = overflow !== 'drop-newest'
    this.#pause = rate === undefined ? 0 : 1000 / rate
    this.#signal = signal
  }

  /** Resolves when all are committed (or dropped). */
  async send(messages: Iterable<Uint8Array>): Promise<void> {
    const writer = this.#writer
    try {
      for (const message of messages) {
        if (this.#pause > 0) await this.#turn()
        if (!writer.push(message)) {
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
