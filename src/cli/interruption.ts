/**
 * Everything that ends a command from outside, as one AbortSignal: Ctrl-C, SIGTERM, a terminal that hangs up, a reader
 * of our output that has gone (`ringbell sub logs | head`). The first one closes cleanly. A second signal has its
 * default action again and kills the process.
 */
import { EXIT, type ExitCode } from './exit-codes.js'

const SIGNALS = { SIGINT: EXIT.interrupted, SIGTERM: EXIT.terminated, SIGHUP: EXIT.hangUp } as const

export class Interruption {
  readonly #controller = new AbortController()
  readonly #listeners: [keyof typeof SIGNALS, () => void][] = []
  #code: ExitCode | undefined

  constructor() {
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
    this.#controller.abort()
  }

  dispose(): void {
    for (const [name, listener] of this.#listeners) process.off(name, listener)
  }
}
