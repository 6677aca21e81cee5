/** What this process has taken, until it gives it back: a lock, permits, the shards of some keys. */
import { membersOf, shown, type ShownOptions } from '../shown.js'
import type { LockMode } from './options.js'

/** What gave it, and takes it back. */
export interface Owner {
  readonly name: string
  /** @internal */
  giveBack(code: number): void
}

/** Something that this process holds until `release()`, `close()` of what it came from, or its end. */
export abstract class Held implements AsyncDisposable, Disposable {
  readonly #owner: Owner
  #code: number
  /**
   * Whether the one before had it alone and ended without giving it back: it was killed, or exited. What it was changing may
   * be half done. The first one that holds a lock alone is told, and all that share it before. It is false if nobody else had the
   * name open then, because the memory goes with its last member. For keys: whether that is true of any of their shards. Permits
   * are never abandoned, they come back.
   */
  readonly abandoned: boolean

  /** @internal */
  constructor(owner: Owner, code: number) {
    this.#owner = owner
    this.#code = code
    this.abandoned = (code & 1) === 1
  }

  /** What it is of. */
  get name(): string {
    return this.#owner.name
  }

  /** Gives it back. Idempotent. */
  release(): void {
    const code = this.#code
    if (code === 0) return
    this.#code = 0
    this.#owner.giveBack(code)
  }

  /** `using`: as `release()`. */
  [Symbol.dispose](): void {
    this.release()
  }

  /** `await using`: as `release()`. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.release()
  }
}

/** A lock that this process holds. */
export class Lock extends Held {
  /** How it is held. */
  readonly mode: LockMode

  /** @internal */
  constructor(owner: Owner, code: number, mode: LockMode) {
    super(owner, code)
    this.mode = mode
  }

  /** What `console.log` shows. */
  [Symbol.for('nodejs.util.inspect.custom')](depth: number | null, options: ShownOptions): string {
    return shown('Lock', membersOf(this, 'name', 'mode', 'abandoned'), depth, options)
  }
}

/** Permits of a semaphore that this process has. */
export class Permits extends Held {
  /** How many. */
  readonly count: number

  /** @internal */
  constructor(owner: Owner, code: number, count: number) {
    super(owner, code)
    this.count = count
  }

  /** What `console.log` shows. */
  [Symbol.for('nodejs.util.inspect.custom')](depth: number | null, options: ShownOptions): string {
    return shown('Permits', membersOf(this, 'name', 'count'), depth, options)
  }
}

/** The shards of some keys of a sharded mutex, which this process holds. */
export class KeysLock extends Held {
  /** What `console.log` shows. */
  [Symbol.for('nodejs.util.inspect.custom')](depth: number | null, options: ShownOptions): string {
    return shown('KeysLock', membersOf(this, 'name', 'abandoned'), depth, options)
  }
}
