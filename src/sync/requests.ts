/**
 * What one bus asks of locks, semaphores, flags and mutexes. A request is answered at once, or its answer comes through the
 * poller, under a token. Waiting keeps the process alive; holding does not. Nothing here blocks: Rust threads sleep in its
 * place, one for each member that has requests which wait. The binding gives back what nobody waits for any more.
 */
import { closedAfter, failureOf, inSteps } from '../closing.js'
import { debug } from '../diagnostics.js'
import { closedError, fromNative, reason, translated } from '../errors.js'
import type { NativeBus, NativeSync, NativeSyncHot } from '../native.js'
import { poller } from '../wait/poller.js'
import { type Limits, type Waiting, waitFor } from '../wait/waiting.js'

/** What can be opened. */
export type Kind = 'lock' | 'semaphore' | 'flag' | 'mutex'

/** The kinds of answers, as the binding numbers them. The others carry a code. */
const FAILED = 0
const OPENED = 3

interface Request {
  readonly member: number | undefined
  readonly waiting: Waiting<number>
}

export class Requests {
  /** The calls of the binding that answer at once. */
  readonly hot: NativeSyncHot
  readonly #native: NativeSync
  readonly #scratch: Float64Array
  readonly #requests = new Map<number, Request>()
  readonly #id: number
  #closed = false

  /** @throws {RingbellError} `ERR_RINGBELL_RESOURCE`. */
  constructor(bus: NativeBus) {
    this.#native = translated(() => bus.sync())
    try {
      this.hot = this.#native.hot()
      this.#scratch = this.#native.scratch
      this.#id = poller().add(this.#native, { wake: () => this.#wake() })
    } catch (error) {
      throw closedAfter(error, this.#native)
    }
  }

  /** Opens a name. Resolves with the number of the member; call `leave` with it. */
  open(kind: Kind, name: string, size: number, limits: Limits): Promise<number> {
    const token = translated(() => this.#native.open(kind, name, size))
    return this.#answer(undefined, token, limits)
  }

  /** The code of what was taken, at once or later. */
  take(member: number, amount: number, limits: () => Limits): number | Promise<number> {
    return this.#taken(
      member,
      translated(() => this.hot.take(member, amount)),
      limits,
    )
  }

  /** The same without waiting; 0: it is not available. */
  tryTake(member: number, amount: number): number {
    return translated(() => this.hot.tryTake(member, amount))
  }

  /** The same as `take` for the shards of some keys. */
  takeKeys(member: number, keys: (string | Uint8Array)[], limits: () => Limits): number | Promise<number> {
    return this.#taken(
      member,
      translated(() => this.#native.takeKeys(member, keys)),
      limits,
    )
  }

  /** Gives back what has this code. A second call does nothing. */
  release(code: number): void {
    translated(() => this.hot.release(code))
  }

  /** Who holds a lock and who waits for it, as JSON. */
  query(member: number): string {
    return translated(() => this.#native.query(member))
  }

  /** Gives back what was taken through this member. What still waits for it fails with this error. */
  leave(member: number, error: unknown): void {
    for (const one of this.#requests.values()) if (one.member === member) one.waiting.reject(error)
    translated(() => this.#native.leave(member))
  }

  /** Gives everything back. What still waits fails. */
  close(): void {
    if (this.#closed) return
    this.#closed = true
    const error = closedError('bus')
    for (const { waiting } of this.#requests.values()) waiting.reject(error)
    inSteps(
      () => poller().remove(this.#id),
      () => this.#native.close(),
    )
  }

  #taken(member: number, answer: number, limits: () => Limits): number | Promise<number> {
    return answer >= 0 ? answer : this.#answer(member, -answer, limits())
  }

  #answer(member: number | undefined, token: number, limits: Limits): Promise<number> {
    return waitFor<number>((waiting) => {
      poller().hold()
      this.#requests.set(token, { member, waiting })
      return () => {
        poller().drop()
        // The answer may have been given already. Then it comes, and nobody waits for it.
        if (this.#requests.delete(token)) this.hot.cancel(token)
      }
    }, limits)
  }

  #wake(): void {
    try {
      while (!this.#closed && this.hot.next()) this.#answered()
    } catch (error) {
      // No answer can be had any more.
      const failure = fromNative(error)
      const waits = [...this.#requests.values()]
      for (const { waiting } of waits) waiting.reject(failure)
      if (waits.length > 0) return
      const told = `Answers to requests for locks cannot be had: ${reason(failure)}`
      process.emitWarning(told, { type: 'RingbellWarning', code: 'RINGBELL_FAILED' })
    }
  }

  /** An answer lies in the scratch words. */
  #answered(): void {
    const [token = 0, kind = FAILED, value = 0] = this.#scratch
    const waiting = this.#requests.get(token)?.waiting
    this.#requests.delete(token)
    if (kind === FAILED) {
      const error = failureOf(() => this.#native.failure())
      if (waiting === undefined) debug('an answer that nobody waits for: %s', error)
      else waiting.reject(error)
    } else if (waiting !== undefined) waiting.resolve(value)
    else if (kind === OPENED) translated(() => this.#native.leave(value))
  }
}
