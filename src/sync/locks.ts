/**
 * Locks by name, in the shape of `navigator.locks`; `bus.locks` is one. A name is opened at its first use. The names that were
 * used last stay open, so that the next use costs nothing; older ones are closed while nobody uses them.
 */
import { checkText } from '../bus/names.js'
import { debug } from '../diagnostics.js'
import { closedError } from '../errors.js'
import { type SignalOptions, throwIfAborted } from '../wait/abort.js'
import { type Limits, waitFor } from '../wait/waiting.js'
import { callbackOf } from './callback.js'
import type { Lock } from './held.js'
import type { LockHandle } from './lock-handle.js'
import {
  checkLock,
  checkRequest,
  checkTake,
  checkTryLock,
  endless,
  type LockMode,
  type LockOptions,
  type LockRequestOptions,
  patience,
  type TryLockOptions,
} from './options.js'

/** A process that holds a lock, or waits for it. */
export interface LockInfo {
  /** The lock. */
  readonly name: string
  /** How it is held, or wanted. */
  readonly mode: LockMode
  /** The process, as its own pid namespace numbers it. */
  readonly pid: number
}

/** Who holds which lock, and who waits for it, at about one moment. */
export interface LocksSnapshot {
  /** One entry for each lock that is held. A process that holds a lock as shared several times is listed once. */
  readonly held: LockInfo[]
  /** One entry for each request that waits. */
  readonly pending: LockInfo[]
}

/** Is called with the lock; with `null` if it was not available. */
export type LockCallback<L, R> = (lock: L) => R | PromiseLike<R>

/** How many names stay open that nobody uses. */
const MOST_IDLE = 32
/** What an open lock answers for ever once it is cut off or broken. */
const LOST: ReadonlySet<unknown> = new Set(['ERR_RINGBELL_REFUSED', 'ERR_RINGBELL_CORRUPT_PEER', 'ERR_RINGBELL_CLOSED'])

/** What a lock says that nobody holds or wants. */
const NOTHING = JSON.stringify({ held: [], pending: [] } satisfies LocksSnapshot)

interface Entry {
  opening: Promise<LockHandle>
  handle: LockHandle | undefined
  /** Requests that wait for the opening. */
  users: number
}

/** What locks need of their bus. */
export interface LocksHost {
  /** Opens a name. */
  open(name: string, limits: Limits): Promise<LockHandle>
  /** The names that any process has open. */
  names(): string[]
}

/** The locks of a bus; `bus.locks` is one. */
export class Locks {
  readonly #host: LocksHost
  /** The name that was used last is the last one. */
  readonly #entries = new Map<string, Entry>()
  #newest: Entry | undefined
  #closed = false

  /** @internal Use `bus.locks`. */
  constructor(host: LocksHost) {
    this.#host = host
  }

  /**
   * Waits for the lock, calls back with it, and gives it back when the promise of the callback is settled. Resolves with the
   * result of the callback. Asking again for the same name within the callback, and waiting for it there, waits forever.
   *
   * Rejects with what the callback throws, and as `acquire` does.
   */
  request<R>(name: string, callback: LockCallback<Lock, R>): Promise<R>
  request<R>(
    name: string,
    options: LockRequestOptions & { ifAvailable?: false | undefined },
    callback: LockCallback<Lock, R>,
  ): Promise<R>
  request<R>(name: string, options: LockRequestOptions, callback: LockCallback<Lock | null, R>): Promise<R>
  async request(name: string, first: unknown, second?: unknown): Promise<unknown> {
    this.#assertOpen()
    checkText(name)
    const [options, callback] = callbackOf<LockRequestOptions, Lock | null>(first, second)
    checkRequest(options)
    const { mode = 'exclusive', ifAvailable = false } = options
    const limits = patience(options, `lock '${name}'`)
    const lock = await this.#with(name, limits, (handle) =>
      ifAvailable ? handle.takeNow(mode) : handle.take(mode, limits),
    )
    if (lock === undefined) return callback(null)
    try {
      return await callback(lock)
    } finally {
      lock.release()
    }
  }

  /**
   * Takes a lock, and waits as long as that takes. Call `release()`, or use `await using`.
   *
   * Rejects with `ERR_RINGBELL_INVALID_NAME`, `ERR_RINGBELL_INVALID_OPTION`, `ERR_RINGBELL_TIMEOUT`, `ERR_RINGBELL_ACQUIRE`
   * (the processes that have it open cannot be reached), `ERR_RINGBELL_CORRUPT_PEER` (another process broke the shared
   * memory), `ERR_RINGBELL_RESOURCE`, `ERR_RINGBELL_CLOSED` or an `AbortError`.
   */
  async acquire(name: string, options: LockOptions = {}): Promise<Lock> {
    this.#assertOpen()
    checkText(name)
    checkLock(options)
    const limits = patience(options, `lock '${name}'`)
    return this.#with(name, limits, (handle) => handle.take(options.mode ?? 'exclusive', limits))
  }

  /** Takes a lock if it is available; otherwise resolves with `undefined`. Rejects as `acquire` does. */
  async tryAcquire(name: string, options: TryLockOptions = {}): Promise<Lock | undefined> {
    this.#assertOpen()
    checkText(name)
    checkTryLock(options)
    return this.#with(name, endless, (handle) => handle.takeNow(options.mode ?? 'exclusive'))
  }

  /** Opens a lock for frequent use: then `acquire` and `tryAcquire` need no name to be looked up. Rejects as `acquire` does. */
  async open(name: string, options: SignalOptions = {}): Promise<LockHandle> {
    this.#assertOpen()
    checkTake(options)
    throwIfAborted(options.signal)
    return this.#host.open(name, { signal: options.signal })
  }

  /**
   * Who holds which lock, and who waits: of this name, or of all names on the bus. Rejects as `acquire` does; of all names, those
   * that cannot be opened are left out.
   */
  async query(name?: string): Promise<LocksSnapshot> {
    this.#assertOpen()
    if (name !== undefined) checkText(name)
    const held: LockInfo[] = []
    const pending: LockInfo[] = []
    for (const one of name === undefined ? this.#host.names() : [name]) {
      const json = name === undefined ? await this.#glance(one) : await this.#with(one, endless, asJson)
      const found = JSON.parse(json) as Record<keyof LocksSnapshot, Omit<LockInfo, 'name'>[]>
      held.push(...found.held.map((client) => ({ name: one, ...client })))
      pending.push(...found.pending.map((client) => ({ name: one, ...client })))
    }
    return { held, pending }
  }

  /** What one of all locks says. A name that is open only for this is closed again; one that cannot be opened says nothing. */
  async #glance(name: string): Promise<string> {
    if (this.#entries.has(name)) return this.#with(name, endless, asJson)
    try {
      const handle = await this.#host.open(name, {})
      try {
        return handle.query()
      } finally {
        handle.closeNow()
      }
    } catch (error) {
      this.#assertOpen()
      debug('looking at lock %s: %s', name, error)
      return NOTHING
    }
  }

  /** @internal The bus closes what is open. */
  close(): void {
    this.#closed = true
    this.#entries.clear()
  }

  async #with<R>(name: string, limits: () => Limits, use: (handle: LockHandle) => R | Promise<R>): Promise<R> {
    const entry = this.#entries.get(name)
    if (entry?.handle !== undefined) {
      this.#touch(name, entry)
      return this.#use(name, entry, entry.handle, use)
    }
    const opened = entry ?? this.#open(name)
    opened.users++
    try {
      const handle = await waitFor<LockHandle>((waiting) => {
        void opened.opening.then(
          (one) => waiting.resolve(one),
          (error: unknown) => waiting.reject(error),
        )
        return () => {}
      }, limits())
      return await this.#use(name, opened, handle, use)
    } finally {
      opened.users--
    }
  }

  /** Uses an open lock. One that can never be used again makes room, so that the next call opens the name anew. */
  async #use<R>(
    name: string,
    entry: Entry,
    handle: LockHandle,
    use: (handle: LockHandle) => R | Promise<R>,
  ): Promise<R> {
    try {
      return await use(handle)
    } catch (error) {
      if (!this.#closed && LOST.has((error as { code?: unknown }).code)) {
        if (this.#entries.get(name) === entry) this.#entries.delete(name)
        handle.closeNow(error)
      }
      throw error
    }
  }

  /** It is the one that was used last. */
  #touch(name: string, entry: Entry): void {
    if (this.#newest === entry) return
    this.#newest = entry
    this.#entries.delete(name)
    this.#entries.set(name, entry)
  }

  #open(name: string): Entry {
    this.#closeIdle()
    const opening = this.#host.open(name, {})
    const entry: Entry = { opening, handle: undefined, users: 0 }
    opening.then(
      (handle) => (entry.handle = handle),
      (error: unknown) => {
        debug('opening lock %s: %s', name, error)
        if (this.#entries.get(name) === entry) this.#entries.delete(name)
      },
    )
    this.#touch(name, entry)
    return entry
  }

  #closeIdle(): void {
    for (const [name, { handle, users }] of this.#entries) {
      if (this.#entries.size < MOST_IDLE) return
      if (users > 0 || handle?.idle !== true) continue
      this.#entries.delete(name)
      handle.closeNow()
    }
  }

  #assertOpen(): void {
    if (this.#closed) throw closedError('bus')
  }
}

function asJson(handle: LockHandle): string {
  return handle.query()
}
