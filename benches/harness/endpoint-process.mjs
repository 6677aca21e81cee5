// A Node process (or another `runtime`) that runs benches/node/endpoint.mjs pinned to a core, and the conversation with it over
// Node's own IPC channel, which is silent within a window.

import { spawn } from 'node:child_process'
import path from 'node:path'
import { pathToFileURL } from 'node:url'

const HERE = path.resolve(import.meta.dirname, '..')
const endpoint = path.join(HERE, 'node/endpoint.mjs')
export const PATIENCE = 20_000

export class Endpoint {
  #waiting = new Map()
  #failed

  /** `benches` is the folder whose modules are loaded: those of another tree bring that tree's library along. */
  constructor({ benches = HERE, ...options }, core) {
    const module = pathToFileURL(path.join(benches, 'node', options.module)).href
    const job = { ...options, module }
    const words = [
      '-c',
      String(core),
      job.runtime ?? process.execPath,
      ...(job.nodeOptions ?? []),
      endpoint,
      JSON.stringify(job),
    ]
    this.process = spawn('taskset', words, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
    this.process.on('message', (message) => this.#arrived(message))
    this.process.on('exit', (code, signal) =>
      this.#fail(new Error(`${job.role} of ${job.title} ended: ${signal ?? code}`)),
    )
  }

  get pid() {
    return this.process.pid
  }

  /** Says something and waits for the reply of the given type. */
  ask(message, replyType, patience) {
    const reply = this.next(replyType, patience)
    this.tell(message)
    return reply
  }

  tell(message) {
    if (!this.#failed) this.process.send(message)
  }

  /** The next message of this type, from the process itself or (`peer:` …) relayed by it. */
  next(type, patience = PATIENCE) {
    if (this.#failed) return Promise.reject(this.#failed)
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => this.#fail(new Error(`no "${type}" within ${patience} ms`)), patience)
      this.#waiting.set(type, { resolve, reject, timer })
    })
  }

  #arrived(message) {
    if (message.type === 'error') return this.#fail(new Error(message.text))
    const type = message.fromPeer ? `peer:${message.type}` : message.type
    const wait = this.#waiting.get(type)
    if (!wait) return
    this.#waiting.delete(type)
    clearTimeout(wait.timer)
    wait.resolve(message)
  }

  #fail(error) {
    this.#failed ??= error
    for (const { reject, timer } of this.#waiting.values()) {
      clearTimeout(timer)
      reject(error)
    }
    this.#waiting.clear()
  }

  async close() {
    if (this.process.exitCode !== null || this.process.signalCode !== null) return
    const exited = new Promise((resolve) => this.process.once('exit', resolve))
    this.tell({ type: 'close' })
    const timer = setTimeout(() => this.process.kill('SIGKILL'), 3000)
    await exited
    clearTimeout(timer)
  }
}
