/**
 * Everything that ends the process from outside, as one AbortSignal: Ctrl-C, SIGTERM, a terminal that hangs up, a reader
 * of our output that has gone (`ringbell sub logs | head`). The first one closes cleanly. A second signal has its
 * default action again and kills the process. The process has one object of this kind. It is made before any output,
 * because help and version are output, too.
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
    // There is no other place to report this error.
    process.stderr.on('error', () => {})
  }

  /** From now on signals end the command cleanly. Before this call they have their default action. */
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
    // The command may have ended without an error already. Then this is the exit code.
    process.exitCode ||= code
    this.#controller.abort()
  }

  /** Signals have their default action again. */
  dispose(): void {
    for (const [name, listener] of this.#listeners) process.off(name, listener)
  }

  /** A reader that has gone is not a failure; a full disk is. Every write may fail, and only the first error is reported. */
  #outputFailed(error: NodeJS.ErrnoException): void {
    if (this.#code !== undefined) return
    if (error.code !== 'EPIPE') complain(error)
    this.stop(error.code === 'EPIPE' ? EXIT.ok : EXIT.failure)
  }
}

/** The interruption of this process. */
let ofProcess: Interruption | undefined

export function interruption(): Interruption {
  return (ofProcess ??= new Interruption())
}
