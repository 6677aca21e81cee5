/** A number of permits that processes share. They are granted in the order of the requests, and those of the dead come back. */
import { translated } from '../errors.js'
import { membersOf, shown, type ShownOptions } from '../shown.js'
import { callbackOf } from './callback.js'
import { Permits } from './held.js'
import { Member, type Place } from './member.js'
import { checkPermits, checkTake, checkUse, patience, type TakeOptions, type UseOptions } from './options.js'

/** A semaphore; `bus.semaphore()` makes it. */
export class Semaphore extends Member {
  /** How many permits there are in all. */
  readonly permits: number

  /** @internal Use `bus.semaphore()`. */
  constructor(place: Place, permits: number) {
    super('semaphore', place)
    this.permits = permits
  }

  /**
   * How many permits nobody has, at about this moment.
   *
   * @throws {RingbellError} `ERR_RINGBELL_CLOSED`.
   */
  get available(): number {
    const { requests, member } = this.opened()
    return translated(() => requests.hot.value(member))
  }

  /**
   * Takes so many permits at once, and waits as long as that takes.
   *
   * Rejects with `ERR_RINGBELL_INVALID_OPTION` (also for more permits than there are), `ERR_RINGBELL_TIMEOUT`,
   * `ERR_RINGBELL_CLOSED`, `ERR_RINGBELL_CORRUPT_PEER`, `ERR_RINGBELL_RESOURCE` or an `AbortError`.
   */
  async acquire(permits = 1, options: TakeOptions = {}): Promise<Permits> {
    checkPermits(permits, this.permits)
    checkTake(options)
    const limits = patience(options, this.what)
    const { requests, member } = this.opened()
    return new Permits(this, await this.used(requests.take(member, permits, limits)), permits)
  }

  /**
   * Takes so many permits if they are free and nobody waits.
   *
   * @throws {RingbellError} As `acquire` rejects.
   */
  tryAcquire(permits = 1): Permits | undefined {
    checkPermits(permits, this.permits)
    const { requests, member } = this.opened()
    const code = this.used(requests.tryTake(member, permits))
    return code === 0 ? undefined : new Permits(this, code, permits)
  }

  /**
   * Takes permits, calls back, and gives them back when the promise of the callback is settled. Resolves with the result of the
   * callback. Rejects with what the callback throws, and as `acquire` does.
   */
  use<R>(callback: (permits: Permits) => R | PromiseLike<R>): Promise<R>
  use<R>(options: UseOptions, callback: (permits: Permits) => R | PromiseLike<R>): Promise<R>
  async use(first: unknown, second?: unknown): Promise<unknown> {
    const [options, callback] = callbackOf<UseOptions, Permits>(first, second)
    checkUse(options, this.permits)
    const { permits = 1, ...limits } = options
    const held = await this.acquire(permits, limits)
    try {
      return await callback(held)
    } finally {
      held.release()
    }
  }

  /** What `console.log` shows. */
  [Symbol.for('nodejs.util.inspect.custom')](depth: number | null, options: ShownOptions): string {
    return shown('Semaphore', membersOf(this, 'name', 'permits', 'available', 'closed'), depth, options)
  }
}
