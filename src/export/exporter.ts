/**
 * Keeps a file current: the bus says that something changed, the records are rendered, and if the text is another one the file is replaced. It
 * never polls. Changes that come close together are one change of the file. What fails is tried again, with longer and longer pauses. `changes.ts`
 * tells the user, so that a slow or failing callback never keeps the file from being current.
 */
import type { Bus } from '../index.js'
import { closedError } from '../errors.js'
import { onAbort, throwIfAborted } from '../wait/abort.js'
import { pauseAfter } from '../wait/backoff.js'
import { Changes } from './changes.js'
import { replaceFile, textOf } from './file.js'
import { checkExport, type ExportOptions } from './options.js'
import { type Renderer, renderer } from './render.js'

/** Milliseconds from a change to the look at the records, in which further changes may come. */
const GATHER_MS = 5
/** Milliseconds from one look to the next, at least: a change is in the file well within 100. */
const PAUSE_MS = 70
/** Pauses after a failure. */
const RETRY = { delay: 50, maxDelay: 5000 }

/** A file that follows a bus. `exportTo()` makes it. */
export class Exporter implements AsyncDisposable {
  /** The path of the file, as it was given. */
  readonly file: string | undefined
  readonly #bus: Bus
  readonly #render: Renderer
  readonly #changes: Changes
  readonly #stop: () => void
  readonly #forget: () => void
  #text: string | undefined
  /** The next text is told, also if it is in the file already. */
  #tells: boolean
  #timer: NodeJS.Timeout | undefined
  /** The look at the records that is under way. */
  #look: Promise<void> | undefined
  #began = -Infinity
  #changed = false
  #failures = 0
  #closed = false

  /** @internal Use `exportTo()`. */
  constructor(bus: Bus, options: ExportOptions) {
    const { file, format, services, endpoint, signal, atStart = false } = options
    this.#tells = atStart
    this.file = file
    this.#bus = bus
    this.#render = renderer(format, { services, endpoint })
    this.#changes = new Changes(options)
    this.#stop = bus.services.follow(() => this.#notice())
    this.#forget = onAbort(signal, () => this.#end())
  }

  /** Whether it does not follow the bus any more. */
  get closed(): boolean {
    return this.#closed
  }

  /** @internal Writes the file for the first time. Rejects if that fails: then there is nothing to follow. */
  async begin(signal: AbortSignal | undefined): Promise<this> {
    const first = this.#first()
    // Its failure is told below.
    this.#look = first.catch(() => {})
    try {
      await first
      throwIfAborted(signal)
      if (this.#closed) throw closedError('bus')
    } catch (error) {
      await this.close()
      throw error
    }
    this.#look = undefined
    if (this.#changed) this.#notice()
    return this
  }

  /**
   * Ends following the bus. The file stays as it is. Resolves when nothing is written any more and `onChange` has returned, so do not wait for it
   * there. Idempotent.
   */
  async close(): Promise<void> {
    this.#end()
    await this.#look
    await this.#changes.settled()
  }

  /** `await using`: as `close()`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  #end(): void {
    if (this.#closed) return
    this.#closed = true
    clearTimeout(this.#timer)
    this.#forget()
    this.#stop()
    this.#changes.close()
  }

  /** Something has changed, or the bus is closed. */
  #notice(): void {
    if (this.#closed) return
    if (this.#bus.closed) return this.#end()
    this.#changed = true
    if (this.#look === undefined && this.#timer === undefined)
      this.#later(Math.max(GATHER_MS, this.#began + PAUSE_MS - performance.now()))
  }

  #later(milliseconds: number): void {
    this.#timer = setTimeout(() => {
      this.#timer = undefined
      this.#look = this.#again()
    }, milliseconds)
  }

  async #again(): Promise<void> {
    let pause: number | undefined
    try {
      await this.#update()
      this.#failures = 0
    } catch (error) {
      pause = pauseAfter(++this.#failures, RETRY)
      this.#changes.failed(error)
    }
    this.#look = undefined
    if (this.#closed) return
    if (pause !== undefined) this.#later(pause)
    else if (this.#changed) this.#notice()
  }

  async #first(): Promise<void> {
    if (this.file !== undefined) this.#text = await textOf(this.file)
    if (!this.#closed) await this.#update()
  }

  async #update(): Promise<void> {
    this.#began = performance.now()
    this.#changed = false
    const rendering = this.#render(this.#bus.services.list())
    const { text } = rendering
    const changed = text !== this.#text
    if (!changed && !this.#tells) return
    const { file } = this
    if (changed && file !== undefined) await replaceFile(file, text)
    this.#text = text
    this.#tells = false
    this.#changes.tell({ ...(file === undefined ? {} : { file }), ...rendering })
  }
}

/**
 * Writes the services on a bus into a file, and keeps it current, until it is closed, the signal fires or the bus is closed. Keeps the process
 * alive. The file is replaced as a whole, and only if its text changes; a file that is right already is not touched.
 *
 * Rejects with `ERR_RINGBELL_INVALID_OPTION`, `ERR_RINGBELL_SYSTEM`, `ERR_RINGBELL_NO_PERMISSION` or `ERR_RINGBELL_RESOURCE` (the file cannot be
 * written), `ERR_RINGBELL_CLOSED`, an `AbortError`. Later failures go to `onError`.
 */
export async function exportTo(bus: Bus, options: ExportOptions): Promise<Exporter> {
  checkExport(options)
  throwIfAborted(options.signal)
  return new Exporter(bus, options).begin(options.signal)
}
