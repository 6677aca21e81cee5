/**
 * Many keys, each of which belongs to one of a power of two of shards. A shard is locked as a whole. Several keys are taken in
 * the order of their shards, so two calls never wait for each other in a circle.
 */
import { isBytes } from '../brand.js'
import { invalid } from '../invalid.js'
import { membersOf, shown, type ShownOptions } from '../shown.js'
import { callbackOf } from './callback.js'
import { KeysLock } from './held.js'
import { Member, type Place } from './member.js'
import { checkTake, patience, type TakeOptions } from './options.js'

/** A key: text, or any bytes. */
export type Key = string | Uint8Array

/** A mutex with shards; `bus.shardedMutex()` makes it. */
export class ShardedMutex extends Member {
  /** How many shards there are. */
  readonly shards: number

  /** @internal Use `bus.shardedMutex()`. */
  constructor(place: Place, shards: number) {
    super('mutex', place)
    this.shards = shards
  }

  /**
   * Takes the shards of these keys, and waits as long as that takes. A caller that holds keys and takes further ones may wait forever:
   * take all of them at once.
   *
   * Rejects with `ERR_RINGBELL_TIMEOUT`, `ERR_RINGBELL_CLOSED`, `ERR_RINGBELL_INVALID_OPTION`,
   * `ERR_RINGBELL_CORRUPT_PEER`, `ERR_RINGBELL_RESOURCE` or an `AbortError`. Then none of them is held.
   */
  async acquire(keys: Key | readonly Key[], options: TakeOptions = {}): Promise<KeysLock> {
    const all = checkedKeys(keys)
    checkTake(options)
    const limits = patience(options, this.what)
    const { requests, member } = this.opened()
    return new KeysLock(this, await this.used(requests.takeKeys(member, all, limits)))
  }

  /**
   * Takes the shard of a key, calls back, and gives it back when the promise of the callback is settled. Resolves with the result
   * of the callback. Rejects with what the callback throws, and as `acquire` does.
   */
  withKey<R>(key: Key, callback: (lock: KeysLock) => R | PromiseLike<R>): Promise<R>
  withKey<R>(key: Key, options: TakeOptions, callback: (lock: KeysLock) => R | PromiseLike<R>): Promise<R>
  async withKey(key: Key, first: unknown, second?: unknown): Promise<unknown> {
    return this.#with([key], first, second)
  }

  /** The same for several keys at once. */
  withKeys<R>(keys: readonly Key[], callback: (lock: KeysLock) => R | PromiseLike<R>): Promise<R>
  withKeys<R>(keys: readonly Key[], options: TakeOptions, callback: (lock: KeysLock) => R | PromiseLike<R>): Promise<R>
  async withKeys(keys: readonly Key[], first: unknown, second?: unknown): Promise<unknown> {
    return this.#with(keys, first, second)
  }

  async #with(keys: readonly Key[], first: unknown, second: unknown): Promise<unknown> {
    const [options, callback] = callbackOf<TakeOptions, KeysLock>(first, second)
    const held = await this.acquire(keys, options)
    try {
      return await callback(held)
    } finally {
      held.release()
    }
  }

  /** What `console.log` shows. */
  [Symbol.for('nodejs.util.inspect.custom')](depth: number | null, options: ShownOptions): string {
    return shown('ShardedMutex', membersOf(this, 'name', 'shards', 'closed'), depth, options)
  }
}

function checkedKeys(keys: Key | readonly Key[]): Key[] {
  const all = Array.isArray(keys) ? [...(keys as readonly Key[])] : [keys as Key]
  const wrong = all.find((key) => typeof key !== 'string' && !isBytes(key))
  if (wrong !== undefined || all.includes(undefined as never))
    throw invalid('key', wrong, 'must be a string or a Uint8Array')
  return all
}
