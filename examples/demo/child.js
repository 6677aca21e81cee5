// @ts-check
/** A process of the demo, as main.js sees it: what it reported last, its end, and orders for it. */
import { fork } from 'node:child_process'
import { EventEmitter, once } from 'node:events'

/** Every child that runs, so that none outlives the demo. @type {Set<Child>} */
const running = new Set()

/** Resolves when none is left: one that is still dying might make the bus directory anew. */
export async function endAll() {
  const all = [...running]
  for (const child of all) child.kill()
  await Promise.all(all.map((child) => child.exited()))
}

/** Emits 'report' with each report, 'exit' at the end. */
export class Child extends EventEmitter {
  /** The newest value of every field that was ever reported. @type {Record<string, any>} */
  latest = {}
  ended = false
  #process

  /** @param {string} name of the file, without .js @param {string} busPath */
  constructor(name, busPath) {
    super()
    this.name = name
    this.#process = fork(new URL(`./${name}.js`, import.meta.url), [busPath])
    running.add(this)
    this.#process.on('message', (/** @type {object} */ report) => {
      Object.assign(this.latest, report)
      this.emit('report', report)
    })
    this.#process.once('exit', (code, signal) => {
      this.ended = true
      running.delete(this)
      this.emit('exit', signal ?? code)
    })
    // An order to somebody who has just ended is not worth an exception: its end is noticed elsewhere.
    this.#process.on('error', () => {})
  }

  get pid() {
    return this.#process.pid
  }

  /** @param {string} order */
  order(order) {
    if (this.#process.connected) this.#process.send({ order })
  }

  /** SIGKILL. */
  kill() {
    this.#process.kill('SIGKILL')
  }

  /** The next report that has this field; fails if the process ends before. @param {string} field @returns {Promise<any>} */
  next(field) {
    return new Promise((resolve, reject) => {
      const settle = (/** @type {() => void} */ how) => {
        this.off('report', look)
        this.off('exit', ended)
        how()
      }
      const look = (/** @type {object} */ report) => field in report && settle(() => resolve(report))
      const ended = (/** @type {unknown} */ how) =>
        settle(() => reject(new Error(`the ${this.name} ended early (${how})`)))
      this.on('report', look)
      this.on('exit', ended)
    })
  }

  async exited() {
    if (!this.ended) await once(this, 'exit')
  }
}
