/**
 * Lines at the bottom of a terminal that are drawn again in place. They are cut to the size of the terminal, because a
 * wrapped line would scroll.
 */
import { stripVTControlCharacters } from 'node:util'

export class LiveBlock {
  readonly #terminal: NodeJS.WriteStream
  #drawn = 0

  constructor(terminal: NodeJS.WriteStream) {
    this.#terminal = terminal
  }

  draw(lines: readonly string[]): void {
    // A terminal that has no size says 0.
    const columns = this.#terminal.columns || Infinity
    const rows = this.#terminal.rows || Infinity
    const shown = lines.slice(0, Math.max(1, rows - 1)).map((line) => cut(line, columns))
    this.#terminal.write(`${this.#top()}${shown.map((line) => `${line}\u001b[K\n`).join('')}\u001b[J`)
    this.#drawn = shown.length
  }

  /** Makes room for a line that stays. The next drawing goes below it. */
  erase(): void {
    this.#terminal.write(`${this.#top()}\u001b[J`)
    this.#drawn = 0
  }

  #top(): string {
    return this.#drawn > 0 ? `\u001b[${this.#drawn}A\r` : '\r'
  }
}

function cut(line: string, columns: number): string {
  const text = stripVTControlCharacters(line)
  return text.length > columns ? text.slice(0, columns) : line
}
