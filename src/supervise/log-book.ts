/** The last lines of the output of a group's instances, and who reads them as they come. */
import { Fifo } from '../wait/fifo.js'

/** One line of output. */
export interface LogLine {
  /** Milliseconds since 1970. */
  readonly time: number
  readonly instance: string
  readonly pid: number | undefined
  readonly stream: 'stdout' | 'stderr'
  readonly line: string
}

const KEPT = 1000
/** The most lines that wait for one reader. Then its oldest ones are dropped. */
const MOST_WAITING = 10_000

export class LogBook {
  readonly #last = new Fifo<LogLine>()
  readonly #readers = new Set<(line: LogLine) => void>()
  readonly #ends = new Set<() => void>()
  #closed = false

  add(line: LogLine): void {
    this.#last.push(line)
    if (this.#last.size > KEPT) this.#last.shift()
    for (const reader of this.#readers) reader(line)
  }

  /** The last `count` lines, and with `follow` those that come until the signal fires or the book is closed. */
  async *read(count: number, follow: boolean, signal: AbortSignal): AsyncGenerator<LogLine, void> {
    const waiting = new Fifo<LogLine>()
    let wake: (() => void) | undefined
    const ended = (): void => wake?.()
    const reader = (line: LogLine): void => {
      waiting.push(line)
      if (waiting.size > MOST_WAITING) waiting.shift()
      wake?.()
    }
    const kept = [...this.#last]
    for (const line of count === 0 ? [] : kept.slice(-count)) waiting.push(line)
    if (follow) this.#readers.add(reader)
    this.#ends.add(ended)
    signal.addEventListener('abort', ended, { once: true })
    try {
      for (;;) {
        for (let line = waiting.shift(); line !== undefined; line = waiting.shift()) yield line
        if (!follow || this.#closed || signal.aborted) return
        await new Promise<void>((resolve) => (wake = resolve))
      }
    } finally {
      signal.removeEventListener('abort', ended)
      this.#readers.delete(reader)
      this.#ends.delete(ended)
    }
  }

  /** Readers get what there is, and then the end. */
  close(): void {
    this.#closed = true
    for (const end of this.#ends) end()
  }
}
