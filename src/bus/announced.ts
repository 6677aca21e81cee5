/**
 * A general record that is neither a topic nor a server: an address, a status, anything that others should find. It
 * exists until it is closed.
 */
import type { Offered } from '../announce/offered.js'
import { checkArgument, plainObject } from '../check.js'
import { inSteps } from '../closing.js'
import { translated } from '../errors.js'
import type { NativeAnnounced } from '../native.js'
import { membersOf, shown, type ShownOptions } from '../shown.js'
import { metadataJson } from './options.js'
import { type RecordJson, type Service, serviceOf } from './service.js'

/** The announcement of a record that is neither topic nor server. `bus.announce()` makes it, and closing withdraws it. */
export class Announced implements AsyncDisposable {
  readonly #native: NativeAnnounced
  readonly #offered: Offered
  readonly #onClose: (announced: Announced) => void
  /** The user's own. */
  #metadata: Record<string, unknown>
  #closed = false

  /** @internal Use `bus.announce()`. */
  constructor(native: NativeAnnounced, offered: Offered, metadata: object, onClose: (announced: Announced) => void) {
    this.#native = native
    this.#offered = offered
    this.#metadata = { ...metadata }
    this.#onClose = onClose
    offered.begin({ closeNow: () => this.closeNow(), write: () => this.#write(this.#metadata) })
  }

  /** The instance as others see it. */
  get service(): Service {
    return serviceOf(JSON.parse(translated(() => this.#native.record())) as RecordJson)
  }

  /** Whether it was withdrawn. */
  get closed(): boolean {
    return this.#closed
  }

  /**
   * Replaces the metadata, except for `tags` and `health` if it was announced with these options; others see `updated`. The record is never
   * missing in between.
   */
  update(metadata: Record<string, unknown>): void {
    checkArgument('metadata', metadata, plainObject)
    this.#write(metadata)
    this.#metadata = { ...metadata }
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
    inSteps(
      () => this.#offered.close(),
      () => this.#native.close(),
    )
  }

  #write(metadata: object): void {
    const json = metadataJson({ ...metadata, ...this.#offered.fields })
    translated(() => this.#native.update(json))
  }
}
