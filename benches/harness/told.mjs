// A program that tells what it does by lines of JSON on its stdout, and is told by lines on its stdin.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'

export class Told {
  #lines
  constructor(command, words, options) {
    this.process = spawn(command, words, { stdio: ['pipe', 'pipe', 'inherit'], ...options })
    this.#lines = createInterface({ input: this.process.stdout })[Symbol.asyncIterator]()
  }

  async next(what) {
    for (;;) {
      const { value, done } = await this.#lines.next()
      if (done) throw new Error(`a program ended before it told ${what}`)
      const told = JSON.parse(value)
      if (what in told) return told
    }
  }

  say(text) {
    this.process.stdin.write(`${text}\n`)
  }

  async end() {
    if (this.process.exitCode !== null || this.process.signalCode !== null) return
    this.process.kill('SIGKILL')
    await once(this.process, 'exit')
  }
}
