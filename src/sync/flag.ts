/** One value, true or false, that processes change at once and wait for. */
import { translated } from '../errors.js'
import { invalid } from '../invalid.js'
import { membersOf, shown, type ShownOptions } from '../shown.js'
import { Member, type Place } from './member.js'
import { checkTake, checkValue, patience, type TakeOptions } from './options.js'

/** A flag; `bus.flag()` makes it. It is false at first, and keeps its value as long as any process has it open, not longer. */
export class AtomicFlag extends Member {
  /** @internal Use `bus.flag()`. */
  constructor(place: Place) {
    super('flag', place)
  }

  /**
   * The value.
   *
   * @throws {RingbellError} `ERR_RINGBELL_CLOSED`, `ERR_RINGBELL_CORRUPT_PEER`.
   */
  get(): boolean {
    const { requests, member } = this.opened()
    return translated(() => requests.hot.value(member)) === 1
  }

  /**
   * Makes it true.
   *
   * @throws {RingbellError} As `get` throws, and `ERR_RINGBELL_INVALID_OPTION` for an argument.
   */
  set(): void
  set(...given: unknown[]): void {
    checkNothing('set', given)
    this.swap(true)
  }

  /**
   * Makes it false.
   *
   * @throws {RingbellError} As `get` throws, and `ERR_RINGBELL_INVALID_OPTION` for an argument.
   */
  clear(): void
  clear(...given: unknown[]): void {
    checkNothing('clear', given)
    this.swap(false)
  }

  /**
   * Stores a value. Returns the one before.
   *
   * @throws {RingbellError} As `get` throws, and `ERR_RINGBELL_INVALID_OPTION`.
   */
  swap(value: boolean): boolean {
    checkValue('value', value)
    const { requests, member } = this.opened()
    return translated(() => requests.hot.swap(member, Number(value)))
  }

  /**
   * Stores `value` if the flag is `current`. Returns whether it was.
   *
   * @throws {RingbellError} As `swap` throws.
   */
  compareAndSwap(current: boolean, value: boolean): boolean {
    checkValue('current', current)
    checkValue('value', value)
    const { requests, member } = this.opened()
    return translated(() => requests.hot.compareAndSwap(member, Number(current), Number(value)))
  }

  /**
   * Waits until the flag is seen with this value. A value that lasts only for a moment may go unseen.
   *
   * Rejects with `ERR_RINGBELL_TIMEOUT`, `ERR_RINGBELL_CLOSED`, `ERR_RINGBELL_INVALID_OPTION`,
   * `ERR_RINGBELL_CORRUPT_PEER`, `ERR_RINGBELL_RESOURCE` or an `AbortError`.
   */
  async waitFor(value: boolean, options: TakeOptions = {}): Promise<void> {
    checkValue('value', value)
    checkTake(options)
    const limits = patience(options, this.what, (waited) => `was not seen ${value} ${waited}`)
    const { requests, member } = this.opened()
    await requests.take(member, Number(value), limits)
  }

  /** What `console.log` shows. */
  [Symbol.for('nodejs.util.inspect.custom')](depth: number | null, options: ShownOptions): string {
    return shown('AtomicFlag', membersOf(this, 'name', 'closed'), depth, options)
  }
}

/** So that `set(false)` does not make it true. */
function checkNothing(method: string, given: readonly unknown[]): void {
  if (given.length > 0) throw invalid('value', given[0], `must not be given to ${method}(); swap(value) stores a value`)
}
