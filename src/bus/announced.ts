/** A record of one's own that is no topic: an address, a status, anything that others should find. It lives until closed. */
import { translated } from '../errors.js'
import type { NativeAnnounced } from '../native.js'
import { metadataJson } from './options.js'
import { type RecordJson, type Service, serviceOf } from './service.js'

/** An announcement of what is neither topic nor server; `bus.announce()` makes it, and closing it withdraws it. */
export class Announced implements AsyncDisposable {
  readonly #native: NativeAnnounced
  readonly #onClose: (announced: Announced) => void
  #closed = false

  /** @internal Use `bus.announce()`. */
  constructor(native: NativeAnnounced, onClose: (announced: Announced) => void) {
    this.#native = native
    this.#onClose = onClose
  }

  /** The instance as others see it. */
  get service(): Service {
    return serviceOf(JSON.parse(translated(() => this.#native.record())) as RecordJson)
  }

  /** Whether it was withdrawn. */
  get closed(): boolean {
    return this.#closed
  }

  /** Replaces the metadata, without a moment in which the record is missing; others see `updated`. */
  update(metadata: Record<string, unknown>): void {
    const json = metadataJson(metadata)
    translated(() => this.#native.update(json))
  }

  /** Withdraws the record; idempotent. */
  async close(): Promise<void> {
    this.closeNow()
  }

  /** `await using`: as `close()`. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.closeNow()
  }

  /** @internal */
  closeNow(): void {
    if (this.#closed) return
    this.#closed = true
    this.#onClose(this)
    translated(() => this.#native.close())
  }
}
