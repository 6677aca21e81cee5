/** The command line as a child process. Every test has a bus of its own. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { ExecutionContext } from 'ava'
import { Child, type ChildOptions, type End } from './child.js'
import { PATIENCE_MS } from './patience.js'
import { until } from './place.js'

/** The program's file, for tests that start it in a way of their own. */
export const MAIN = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url))

export class Cli extends Child {
  constructor(bus: string, args: readonly string[], options: ChildOptions = {}) {
    super(process.execPath, [MAIN, ...args], { ...options, env: { IPC_BUS_DIR: bus, ...options.env } })
  }

  /** Writes all of stdin. */
  feed(input: string | Uint8Array): this {
    this.process.stdin.end(input)
    return this
  }
}

export interface Scene {
  /** The bus directory. */
  readonly bus: string
  readonly start: (args: readonly string[], options?: ChildOptions) => Cli
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
    await Promise.all(started.map((cli) => cli.ended()))
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
    until: <T>(args: readonly string[], condition: (results: T) => boolean): Promise<T> =>
      until(async () => {
        const { code, stdout } = await run([...args, '--json'])
        const results = code === 0 ? (JSON.parse(stdout.toString()) as T) : undefined
        return results !== undefined && condition(results) ? results : undefined
      }),
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
