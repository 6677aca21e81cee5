// @ts-check
/**
 * The terminal: lines that stay, and below them a block that is drawn anew in place. Without a terminal the block becomes
 * one line a second. Colours only where they are wanted (NO_COLOR, FORCE_COLOR, TERM).
 */
import { stripVTControlCharacters, styleText } from 'node:util'

const { stdout } = process
const SECOND = 1000

/** @param {Parameters<typeof styleText>[0]} style @param {string} text */
export function paint(style, text) {
  return stdout.isTTY && stdout.hasColors() ? styleText(style, text) : text
}

/** @typedef {{ lines: string[], summary: string | undefined }} View */

export class Screen {
  /** @type {() => View} */
  #view
  #drawn = 0
  #timer

  /** @param {() => View} view what there is to see right now */
  constructor(view) {
    this.#view = view
    this.#timer = stdout.isTTY ? setInterval(() => this.#draw(), 100) : setInterval(() => this.#sum(), SECOND)
  }

  /** @param {string} line */
  say(line) {
    this.#draw(`${line}\n`)
  }

  /** The block goes; what was said stays. */
  close() {
    clearInterval(this.#timer)
    stdout.write(this.#erasure())
  }

  #sum() {
    const { summary } = this.#view()
    if (summary !== undefined) stdout.write(`${summary}\n`)
  }

  /** In one write, so that nothing flickers. @param {string} [said] goes above the block, to stay */
  #draw(said = '') {
    const lines = stdout.isTTY ? this.#view().lines.map(cut) : []
    stdout.write(`${this.#erasure()}${said}${lines.map((line) => `${line}\n`).join('')}`)
    this.#drawn = lines.length
  }

  #erasure() {
    const drawn = this.#drawn
    this.#drawn = 0
    return drawn === 0 ? '' : `\u001b[${drawn}A\r\u001b[J`
  }
}

/** A wrapped line would not be erased. @param {string} line */
function cut(line) {
  const text = stripVTControlCharacters(line)
  return text.length > stdout.columns ? text.slice(0, stdout.columns) : line
}
