/**
 * Everything that ends the process from outside, as one AbortSignal: Ctrl-C, SIGTERM, a terminal that hangs up, a reader of
 * the output that has gone (`ringbell sub logs | head`). The first one closes cleanly; a second signal finds its default
 * action back in place and kills. There is one for the process, from before the first word is written: help and version
 * are output, too.
 */
import { EXIT, type ExitCode } from './exit-codes.js'
import { complain } from './paint.js'

const SIGNALS = { SIGINT: EXIT.interrupted, SIGTERM: EXIT.terminated, SIGHUP: EXIT.hangUp } as const

class Interruption {
  readonly #controller = new AbortController()
  readonly #listeners: [keyof typeof SIGNALS, () => void][] = []
  #code: ExitCode | undefined

  constructor() {
    process.stdout.on('error', (error: NodeJS.ErrnoException) => this.#outputFailed(error))
    // Nobody is left who could be told.
    process.stderr.on('error', () => {})
  }

  /** Signals end a command cleanly from now on; before, they have their default action. */
  listen(): void {
    for (const [name, code] of Object.entries(SIGNALS) as [keyof typeof SIGNALS, ExitCode][]) {
      const listener = (): void => this.stop(code)
      process.once(name, listener)
      this.#listeners.push([name, listener])
    }
  }

  get signal(): AbortSignal {
    return this.#controller.signal
  }

  /** The exit code, once there was an interruption. */
  get code(): ExitCode | undefined {
    return this.#code
  }

  stop(code: ExitCode): void {
    this.#code ??= code
    // The command may have ended already, and well: then this is what went wrong.
    process.exitCode ||= code
    this.#controller.abort()
  }

  /** Signals have their default action again. */
  dispose(): void {
    for (const [name, listener] of this.#listeners) process.off(name, listener)
  }

  /** A reader that has seen enough is no failure; a full disk is. Each write may fail anew: the first one is told. */
  #outputFailed(error: NodeJS.ErrnoException): void {
    if (this.#code !== undefined) return
    if (error.code !== 'EPIPE') complain(error)
    this.stop(error.code === 'EPIPE' ? EXIT.ok : EXIT.failure)
  }
}

/** The one of this process. */
let ofProcess: Interruption | undefined

export function interruption(): Interruption {
  return (ofProcess ??= new Interruption())
}
