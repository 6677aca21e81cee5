/** A lock that stays open: for those who take it often. `bus.locks` uses one for each name. */
import { membersOf, shown, type ShownOptions } from '../shown.js'
import type { Limits } from '../wait/waiting.js'
import { Lock } from './held.js'
import { Member, type Place } from './member.js'
import {
  checkLock,
  checkTryLock,
  endless,
  type LockMode,
  type LockOptions,
  patience,
  type TryLockOptions,
} from './options.js'

/** An open lock; `bus.locks.open()` makes it. */
export class LockHandle extends Member {
  /** @internal Use `bus.locks.open()`. */
  constructor(place: Place) {
    super('lock', place)
  }

  /**
   * Takes the lock, and waits as long as that takes. Without rivals it is taken at once, without a system call.
   *
   * Rejects with `ERR_RINGBELL_TIMEOUT`, `ERR_RINGBELL_CLOSED`, `ERR_RINGBELL_INVALID_OPTION`,
   * `ERR_RINGBELL_CORRUPT_PEER` (another process broke the shared memory), `ERR_RINGBELL_RESOURCE` or an `AbortError`.
   */
  async acquire(options?: LockOptions): Promise<Lock> {
    if (options === undefined) return this.take('exclusive', endless)
    checkLock(options)
    return this.take(options.mode ?? 'exclusive', patience(options, this.what))
  }

  /**
   * Takes the lock if it is available.
   *
   * @throws {RingbellError} As `acquire` rejects.
   */
  tryAcquire(options?: TryLockOptions): Lock | undefined {
    if (options === undefined) return this.takeNow('exclusive')
    checkTryLock(options)
    return this.takeNow(options.mode ?? 'exclusive')
  }

  /** @internal The options are checked. */
  take(mode: LockMode, limits: () => Limits): Lock | Promise<Lock> {
    const { requests, member } = this.opened()
    const code = this.used(requests.take(member, amountOf(mode), limits))
    return typeof code === 'number' ? new Lock(this, code, mode) : code.then((later) => new Lock(this, later, mode))
  }

  /** @internal The options are checked. */
  takeNow(mode: LockMode): Lock | undefined {
    const { requests, member } = this.opened()
    const code = this.used(requests.tryTake(member, amountOf(mode)))
    return code === 0 ? undefined : new Lock(this, code, mode)
  }

  /** @internal JSON. */
  query(): string {
    const { requests, member } = this.opened()
    return requests.query(member)
  }

  /** What `console.log` shows. */
  [Symbol.for('nodejs.util.inspect.custom')](depth: number | null, options: ShownOptions): string {
    return shown('LockHandle', membersOf(this, 'name', 'closed'), depth, options)
  }
}

function amountOf(mode: LockMode): number {
  return mode === 'exclusive' ? 0 : 1
}
