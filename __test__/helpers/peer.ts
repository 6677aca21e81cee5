/**
 * A peer process: a program of fixtures/ with arguments, which tells what it does over IPC. Killed at the end of the
 * test whatever state it is in; the fixtures themselves end when their parent is gone.
 */
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { Child } from './child.js'
import type { Place } from './place.js'

/** What fixtures tell: a word, and whatever belongs to it. */
export interface Told {
  what: string
  [detail: string]: unknown
}

export class Peer extends Child {
  #told: Told[] = []

  constructor(program: string, args: readonly string[], env: NodeJS.ProcessEnv, nodeArgs: string[]) {
    const path = fileURLToPath(new URL(`../fixtures/${program}`, import.meta.url))
    super(process.execPath, [...nodeArgs, path, ...args], { env: { NODE_OPTIONS: '', ...env }, ipc: true })
    this.process.on('message', (told) => this.#told.push(told as Told))
  }

  /** The next thing of this kind that it tells; what it told before it is forgotten. */
  async tells(what: string): Promise<Told> {
    for (;;) {
      const at = this.#told.findIndex((told) => told.what === what)
      const found = this.#told[at]
      if (found !== undefined) {
        this.#told.splice(0, at + 1)
        return found
      }
      if (!this.running && !this.process.connected)
        throw new Error(`the peer ended before it told ${what}: ${this.stderr}`)
      await Promise.race([once(this.process, 'message'), this.end])
    }
  }

  ask(what: string, details: Record<string, unknown> = {}): void {
    this.process.send({ what, ...details })
  }
}

/** Starts one on the place's bus. */
export function peer(
  at: Place,
  program: string,
  args: readonly (string | number)[] = [],
  options: { env?: NodeJS.ProcessEnv; nodeArgs?: string[] } = {},
): Peer {
  const made = new Peer(program, args.map(String), { IPC_BUS_DIR: at.path, ...options.env }, options.nodeArgs ?? [])
  at.onEnd(() => made.ended())
  return made
}
