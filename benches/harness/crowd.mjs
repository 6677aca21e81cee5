// One server process and many connected clients, which live in a few other processes: whether every call is
// answered, how long the slowest take, what the server holds open for each, and what all of them do while nobody calls.

import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import path from 'node:path'
import { Endpoint, PATIENCE } from './endpoint-process.mjs'
import { distribution } from './statistics.mjs'
import { contextSwitches, pause, quiet, systemCalls } from './switches.mjs'

const PROCESSES = 4
const SILENCE_MS = 5000

const descriptors = (pid) => readdirSync(`/proc/${pid}/fd`).length

export class Crowd {
  #processes = []
  #idle

  constructor(options) {
    this.options = options
  }

  async open() {
    const { scratch, clients, ...job } = this.options
    this.address = mkdtempSync(path.join(scratch, 'crowd-'))
    const start = async (role, core, more) => {
      const endpoint = new Endpoint({ ...job, ...more, role, address: this.address, cores: [0, 1] }, core)
      this.#processes.push(endpoint)
      await endpoint.next('ready', 120_000)
      return endpoint
    }
    this.server = await start('server', 0)
    const alone = descriptors(this.server.pid)
    const each = clients / PROCESSES
    this.crowd = []
    for (let from = 0; from < clients; from += each) this.crowd.push(await start('crowd', 1, { from, count: each }))
    this.serverFds = descriptors(this.server.pid)
    this.fdsPerClient = (this.serverFds - alone) / clients
  }

  async window({ warm, ms }) {
    const { meanPauseMs } = this.options
    const message = { type: 'chat', warm, ms, meanPauseMs }
    const chats = await Promise.all(this.crowd.map((one) => one.ask(message, 'chatted', PATIENCE + warm + ms)))
    const total = (what) => chats.reduce((sum, chat) => sum + chat[what], 0)
    const samples = Float64Array.from(chats.flatMap(({ nanoseconds }) => nanoseconds))
    const wrong = total('bad') + total('lost')
    const error = chats.find((chat) => chat.error)?.error ?? (wrong ? `${wrong} replies were not the right ones` : '')
    return {
      ...distribution(samples),
      callsPerSecond: samples.length / (ms / 1000),
      errors: total('errors') + wrong,
      ...(error && { error }),
      serverFds: this.serverFds,
      fdsPerClient: this.fdsPerClient,
      // Silence takes long to measure and is the same in every round.
      ...(this.#idle ? {} : (this.#idle = await this.#silence())),
    }
  }

  async #silence() {
    const pids = this.#processes.map(({ pid }) => pid)
    const settled = await quiet(pids, 30_000)
    const before = contextSwitches(pids)
    await pause(SILENCE_MS)
    const switches = contextSwitches(pids) - before
    const calls = await systemCalls(pids, SILENCE_MS, this.options.scratch)
    return { settled, contextSwitches: switches, systemCalls: calls?.length, which: [...new Set(calls)] }
  }

  async close() {
    for (const endpoint of this.#processes.toReversed()) await endpoint.close()
    if (this.address) rmSync(this.address, { recursive: true, force: true })
  }
}
