/**
 * Tells the user's callbacks what happened. One call of `onChange` at a time; while it runs only the newest change is kept. Nothing that a
 * callback throws gets out of here.
 */
import { isError } from '../brand.js'
import { failureOf } from '../closing.js'
import { debug } from '../diagnostics.js'
import { reason } from '../errors.js'
import type { ExportChange, ExportOptions } from './options.js'

export class Changes {
  readonly #onChange: ExportOptions['onChange']
  readonly #onError: ExportOptions['onError']
  #next: ExportChange | undefined
  #telling: Promise<void> | undefined
  #closed = false

  constructor({ onChange, onError }: Pick<ExportOptions, 'onChange' | 'onError'>) {
    this.#onChange = onChange
    this.#onError = onError
  }

  tell(change: ExportChange): void {
    this.#next = change
    this.#telling ??= this.#tellAll()
  }

  failed(cause: unknown): void {
    debug('export: %s', cause)
    if (this.#closed) return
    const error = isError(cause) ? cause : new Error(reason(cause), { cause })
    const second = failureOf(() => this.#onError?.(error))
    if (second !== undefined) debug('onError of an export: %s', second)
  }

  /** Nothing more is told: neither changes nor failures. */
  close(): void {
    this.#closed = true
    this.#next = undefined
  }

  /** Resolves when no callback runs. */
  async settled(): Promise<void> {
    await this.#telling
  }

  async #tellAll(): Promise<void> {
    for (let change = this.#next; change !== undefined; change = this.#next) {
      this.#next = undefined
      try {
        await this.#onChange?.(change)
      } catch (error) {
        this.failed(error)
      }
    }
    this.#telling = undefined
  }
}
