/**
 * A child process of a test: what it wrote, how it ended, and a watchdog that kills it. Whatever happens, it does not outlive its
 * test. Command lines (cli-process.ts), peers that tell what they do over IPC (peer.ts) and examples are made of it.
 */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import { PATIENCE_MS } from './patience.js'

export interface End {
  code: number | null
  signal: NodeJS.Signals | null
  stdout: Buffer
  stderr: string
}

export interface ChildOptions {
  env?: NodeJS.ProcessEnv | undefined
  /** It has an IPC channel, and no stdin. */
  ipc?: boolean
  /** Its stdout is not read until `read` is called. */
  paused?: boolean
}

export class Child {
  readonly process: ChildProcessWithoutNullStreams
  readonly end: Promise<End>
  stderr = ''
  readonly #stdout: Buffer[] = []

  constructor(command: string, args: readonly string[], { env, ipc, paused }: ChildOptions = {}) {
    this.process = spawn(command, args, {
      env: { ...process.env, ...env },
      stdio: ipc === true ? ['ignore', 'pipe', 'pipe', 'ipc'] : ['pipe', 'pipe', 'pipe'],
    }) as ChildProcessWithoutNullStreams
    const watchdog = setTimeout(() => this.kill(), PATIENCE_MS)
    if (paused !== true) this.read()
    this.process.stderr.setEncoding('utf8').on('data', (text: string) => (this.stderr += text))
    // A child that has had enough of its input is no failure of ours.
    if (ipc !== true) this.process.stdin.on('error', () => {})
    this.end = once(this.process, 'close').then(([code, signal]) => {
      clearTimeout(watchdog)
      return { code, signal, stdout: this.stdout, stderr: this.stderr }
    })
  }

  get pid(): number {
    return this.process.pid as number
  }

  get stdout(): Buffer {
    return Buffer.concat(this.#stdout)
  }

  get running(): boolean {
    return this.process.exitCode === null && this.process.signalCode === null
  }

  /** Reads stdout; by itself unless it was started paused. */
  read(): void {
    this.process.stdout.on('data', (chunk: Buffer) => this.#stdout.push(chunk))
  }

  kill(signal: NodeJS.Signals = 'SIGKILL'): void {
    this.process.kill(signal)
  }

  /** Stops it, and resolves when all of its threads have stopped. */
  async stop(): Promise<void> {
    this.kill('SIGSTOP')
    const folder = `/proc/${this.pid}/task`
    const running = (task: string): boolean =>
      !/\) [Tt] /.test(readFileSync(`${folder}/${task}/stat`, { encoding: 'utf8' }))
    while (readdirSync(folder).some(running)) await new Promise((done) => setTimeout(done, 1))
  }

  /** Kills it, whatever state it is in, and waits for its end. */
  async ended(): Promise<void> {
    if (this.running) this.kill()
    await this.end
  }

  /** Resolves once stdout shows this. */
  shows(pattern: string | RegExp): Promise<void> {
    return new Promise((resolve, reject) => {
      const check = (): void => {
        const text = this.stdout.toString()
        if (typeof pattern === 'string' ? text.includes(pattern) : pattern.test(text)) resolve()
      }
      this.process.stdout.on('data', check)
      this.process.once('close', () => reject(new Error(`ended before it showed ${String(pattern)}: ${this.stderr}`)))
      check()
    })
  }
}
