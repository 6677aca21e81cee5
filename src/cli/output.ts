/**
 * The output of a command. Results go to stdout, all of them, at the pace of the reader. Notes for a person go to
 * stderr only if that is a terminal. Misses and failures always go to stderr. There are colours only on terminals, and
 * never with NO_COLOR.
 */
import { once } from 'node:events'
import { styleText } from 'node:util'
import { EXIT, sentenceOf } from './exit-codes.js'
import type { Interruption } from './interruption.js'

export type Style = Parameters<typeof styleText>[0]

/** Styles a text, or leaves it as it is. */
export type Paint = (style: Style, text: string) => string

export function paintFor(stream: NodeJS.WriteStream): Paint {
  // A terminal's own `hasColors` knows NO_COLOR, FORCE_COLOR and TERM.
  return stream.isTTY && stream.hasColors() ? styled : plain
}

export class Output {
  /** Results as JSON. */
  readonly json: boolean
  readonly paint: Paint = paintFor(process.stdout)
  readonly paintNote: Paint = paintFor(process.stderr)
  /** Called before anything is written to stderr. Code that draws on the terminal sets it. */
  beforeNote: () => void = nothing
  readonly #signal: AbortSignal

  constructor(json: boolean, interruption: Interruption) {
    this.json = json
    this.#signal = interruption.signal
    process.stdout.on('error', (error: NodeJS.ErrnoException) => {
      // The reader has closed its end, which is not a failure.
      if (error.code !== 'EPIPE') process.stderr.write(`${this.paintNote('red', 'ringbell:')} ${sentenceOf(error)}\n`)
      interruption.stop(error.code === 'EPIPE' ? EXIT.ok : EXIT.failure)
    })
    process.stderr.on('error', () => {})
  }

  /** Whether a person watches the results as they come. */
  get live(): boolean {
    return process.stdout.isTTY && !this.json
  }

  /** Writes a result. If the reader is behind, the promise waits for it. */
  write(data: string | Uint8Array): Promise<void> | undefined {
    if (process.stdout.write(data)) return undefined
    return once(process.stdout, 'drain', { signal: this.#signal }).then(nothing)
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

function styled(style: Style, text: string): string {
  return styleText(style, text)
}

function plain(_style: Style, text: string): string {
  return text
}

function nothing(): void {}
