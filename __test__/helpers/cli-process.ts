/** The CLI as a child process: what it wrote, how it ended, and a watchdog that kills it. Every test has a bus of its own. */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { ExecutionContext } from 'ava'

const MAIN = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url))
const PATIENCE_MS = 60_000

export interface End {
  code: number | null
  signal: NodeJS.Signals | null
  stdout: Buffer
  stderr: string
}

export class Cli {
  readonly process: ChildProcessWithoutNullStreams
  readonly end: Promise<End>
  #stdout: Buffer[] = []
  stderr = ''

  constructor(bus: string, args: readonly string[], options: { paused?: boolean; env?: Record<string, string> } = {}) {
    this.process = spawn(process.execPath, [MAIN, ...args], {
      env: { ...process.env, IPC_BUS_DIR: bus, ...options.env },
    })
    const watchdog = setTimeout(() => this.process.kill('SIGKILL'), PATIENCE_MS)
    if (options.paused !== true) this.read()
    this.process.stderr.setEncoding('utf8').on('data', (text: string) => (this.stderr += text))
    // A child that has had enough of its input is no failure of ours.
    this.process.stdin.on('error', () => {})
    this.end = once(this.process, 'close').then(([code, signal]) => {
      clearTimeout(watchdog)
      return { code, signal, stdout: this.stdout, stderr: this.stderr }
    })
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

  /** Writes all of stdin. */
  feed(input: string | Uint8Array): this {
    this.process.stdin.end(input)
    return this
  }

  /** Resolves once stdout shows this. */
  shows(text: string): Promise<void> {
    return new Promise((resolve, reject) => {
      const look = (): void => {
        if (this.stdout.includes(text)) resolve()
      }
      this.process.stdout.on('data', look)
      this.process.once('close', () => reject(new Error(`ended before it showed ${text}: ${this.stderr}`)))
      look()
    })
  }
}

export interface Scene {
  /** The bus directory. */
  readonly bus: string
  readonly start: (args: readonly string[], options?: ConstructorParameters<typeof Cli>[2]) => Cli
  /** Runs a command to its end. */
  readonly run: (args: readonly string[], input?: string | Uint8Array) => Promise<End>
  /** Runs a command with --json, again and again until its results satisfy a condition. */
  readonly until: <T>(args: readonly string[], condition: (results: T) => boolean) => Promise<T>
}

/** A fresh bus; at the end of the test everything that still runs is killed. */
export function scene(t: ExecutionContext): Scene {
  const bus = mkdtempSync(join(tmpdir(), 'ringbell-cli-'))
  const started: Cli[] = []
  t.timeout(PATIENCE_MS + 10_000)
  t.teardown(async () => {
    for (const cli of started) cli.process.kill('SIGKILL')
    await Promise.all(started.map((cli) => cli.end))
    rmSync(bus, { recursive: true, force: true })
  })
  const start: Scene['start'] = (args, options) => {
    const cli = new Cli(bus, args, options)
    started.push(cli)
    return cli
  }
  const run: Scene['run'] = (args, input = '') => start(args).feed(input).end
  return {
    bus,
    start,
    run,
    until: async <T>(args: readonly string[], condition: (results: T) => boolean): Promise<T> => {
      const begin = Date.now()
      for (;;) {
        const { code, stdout, stderr } = await run([...args, '--json'])
        if (code === 0) {
          const results = JSON.parse(stdout.toString()) as T
          if (condition(results)) return results
        }
        if (Date.now() - begin > PATIENCE_MS)
          throw new Error(`${args.join(' ')} never came to it: ${stdout.toString()}${stderr}`)
      }
    },
  }
}

/** Lines of JSON. */
export function values<T>(stdout: Buffer): T[] {
  return stdout
    .toString()
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line) as T)
}

/** What `inspect --json` gives, as far as tests look at it. */
export interface Inspected {
  id: string
  pid: number
  source?: {
    rung: string
    slot: number
    publisher: { messages: number; full: number }
    subscribers: { slot: number; pid: number; state: string; backlog: number }[]
  }
}

/** Waits until a topic has so many subscribers besides the one who asks. */
export function attached(stage: Scene, topic: string, count = 1): Promise<Inspected[]> {
  return stage.until<Inspected[]>(['inspect', topic], ([instance]) => {
    const { source } = instance ?? {}
    return (
      source !== undefined &&
      source.subscribers.filter(({ slot, state }) => slot !== source.slot && state === 'active').length >= count
    )
  })
}
