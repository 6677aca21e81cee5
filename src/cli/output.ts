/**
 * The output of a command. Results go to stdout, all of them, at the pace of the reader. Notes for a person go to
 * stderr only if that is a terminal. Misses and failures always go to stderr. interruption.ts handles errors of stdout.
 */
import { once } from 'node:events'
import { type Paint, paintFor } from './paint.js'

export class Output {
  /** Results as JSON. */
  readonly json: boolean
  readonly paint: Paint = paintFor(process.stdout)
  readonly paintNote: Paint = paintFor(process.stderr)
  /** Called before anything is written to stderr. Code that draws on the terminal sets it. */
  beforeNote: () => void = nothing
  readonly #signal: AbortSignal
  #drained: Promise<void> | undefined

  constructor(json: boolean, signal: AbortSignal) {
    this.json = json
    this.#signal = signal
  }

  /** Whether a person watches the results as they come. */
  get live(): boolean {
    return process.stdout.isTTY && !this.json
  }

  /** Writes a result. If the reader is behind, the promise waits for it. */
  write(data: string | Uint8Array): Promise<void> | undefined {
    if (process.stdout.write(data)) return undefined
    // One wait for all that are behind.
    return (this.#drained ??= once(process.stdout, 'drain', { signal: this.#signal })
      .then(nothing)
      .finally(() => (this.#drained = undefined)))
  }

  /**
   * For output of others, which does not end with the command: the promise waits for the reader and never rejects. When the command is to end,
   * what the reader does not take at once is dropped.
   */
  pass(line: string): Promise<void> | undefined {
    const { writable, writableNeedDrain } = process.stdout
    if (this.#signal.aborted && (!writable || writableNeedDrain)) return undefined
    // What went wrong with stdout ends the command.
    return this.line(line)?.catch(nothing)
  }

  /** For reports at fixed times: they do not wait for the reader. */
  post(line: string): void {
    process.stdout.write(`${line}\n`)
  }

  line(text: string): Promise<void> | undefined {
    return this.write(`${text}\n`)
  }

  /** One line of JSON. */
  value(value: unknown): Promise<void> | undefined {
    return this.line(JSON.stringify(value))
  }

  /** For a person at a terminal. */
  note(text: string): void {
    if (process.stderr.isTTY) this.#tell(this.paintNote('dim', text))
  }

  /** Always written: as a sentence, or with `--json` as an object. */
  report(text: string, details: object): void {
    this.#tell(this.json ? JSON.stringify(details) : `${this.paintNote('yellow', 'ringbell:')} ${text}`)
  }

  #tell(line: string): void {
    this.beforeNote()
    process.stderr.write(`${line}\n`)
  }
}

function nothing(): void {}
