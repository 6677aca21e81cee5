/**
 * A general record that is neither a topic nor a server: an address, a status, anything that others should find. It
 * exists until it is closed.
 */
import { translated } from '../errors.js'
import type { NativeAnnounced } from '../native.js'
import { membersOf, shown, type ShownOptions } from '../shown.js'
import { metadataJson } from './options.js'
import { type RecordJson, type Service, serviceOf } from './service.js'

/** The announcement of a record that is neither topic nor server. `bus.announce()` makes it, and closing withdraws it. */
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

  /** Replaces the metadata; others see `updated`. The record is never missing in between. */
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

  /** What `console.log` shows. */
  [Symbol.for('nodejs.util.inspect.custom')](depth: number | null, options: ShownOptions): string {
    return shown('Announced', membersOf(this, 'service', 'closed'), depth, options)
  }

  /** @internal */
  closeNow(): void {
    if (this.#closed) return
    this.#closed = true
    this.#onClose(this)
    translated(() => this.#native.close())
  }
}
