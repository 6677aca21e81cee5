/**
 * A name that one process holds at a time: a leader, a singleton. The kernel decides who (crates/core/src/bus/claim).
 * One object goes the whole way: it is asked for, held, and then released or lost. Users get it only when it is held.
 * Asking keeps the process alive, unless it is the member of a group that asks; holding does not.
 */
import { check, flag, type Rules, signal } from '../check.js'
import { failureOf, inSteps } from '../closing.js'
import { channels, debug } from '../diagnostics.js'
import { asRingbellError, closedError, fromNative, reason, type RingbellError } from '../errors.js'
import type { NativeClaim } from '../native.js'
import { membersOf, shown, type ShownOptions } from '../shown.js'
import type { SignalOptions } from '../wait/abort.js'
import { poller } from '../wait/poller.js'
import { type Waiting, waitFor } from '../wait/waiting.js'

/** How to claim a name. */
export interface ClaimOptions extends SignalOptions {
  /** Do not wait for another holder: resolve with `undefined` if there is one. */
  ifAvailable?: boolean | undefined
}

const CLAIM: Rules = { signal, ifAvailable: flag }
/** What the binding answers in place of an epoch. */
const ASKED = 0
const REFUSED = -1

/** A name that this process holds until `release()`, its end, or the loss of the claim. `bus.claim()` makes it. */
export class Claim implements AsyncDisposable {
  /** The name. */
  readonly name: string
  /**
   * Resolves with the reason when the claim is lost: `ERR_RINGBELL_CLAIM_LOST`, or `ERR_RINGBELL_CLOSED` when the bus is
   * closed. Then another process may hold the name, so stop acting for it. It stays pending after `release()`, and it
   * never rejects.
   */
  readonly lost: Promise<RingbellError>
  readonly #native: NativeClaim
  readonly #ended: (claim: Claim) => void
  readonly #id: number
  #lose: (reason: RingbellError) => void = () => {}
  #waiting: Waiting<Claim | undefined> | undefined
  #epoch = ASKED
  #over = false

  /** @internal Use `bus.claim()`. */
  constructor(native: NativeClaim, name: string, ended: (claim: Claim) => void) {
    this.name = name
    this.lost = new Promise((resolve) => (this.#lose = resolve))
    this.#native = native
    this.#ended = ended
    this.#id = poller().add(native, { wake: () => this.#wake() })
  }

  /**
   * The number of this holder: larger than that of every earlier holder of the name. A holder that acts for the name sends it
   * along, so that others can refuse what a former holder still does.
   */
  get epoch(): number {
    return this.#epoch
  }

  /** Whether it is held: neither released nor lost. */
  get held(): boolean {
    return !this.#over && this.#epoch !== ASKED
  }

  /** Gives the name back. When it resolves, another process can have it. Idempotent. */
  async release(): Promise<void> {
    this.#release()
  }

  /** `await using`: as `release()`. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#release()
  }

  /** What `console.log` shows. */
  [Symbol.for('nodejs.util.inspect.custom')](depth: number | null, options: ShownOptions): string {
    return shown('Claim', membersOf(this, 'name', 'epoch', 'held'), depth, options)
  }

  /** @internal As `release`, for an owner that ends by several steps. */
  releaseNow(): void {
    this.#release()
  }

  /** @internal Resolves when it is held; with `undefined` if it is not available. `holds`: asking keeps the process alive. */
  async granted(limit: AbortSignal | undefined, holds = true): Promise<Claim | undefined> {
    try {
      return await waitFor<Claim | undefined>(
        (waiting) => {
          if (holds) poller().hold()
          else poller().hurry()
          this.#waiting = waiting
          return () => {
            this.#waiting = undefined
            if (holds) poller().drop()
          }
        },
        { signal: limit },
      )
    } catch (error) {
      const failure = failureOf(() => this.#end())
      // Who gave up is told that, and hears of nothing else.
      if (failure !== undefined) {
        const told = `The claim of '${this.name}' was given up, and could not be closed: ${reason(failure)}`
        process.emitWarning(told, { type: 'RingbellWarning', code: 'RINGBELL_FAILED' })
      }
      throw error
    }
  }

  /** @internal The bus is closed. */
  closeNow(): void {
    if (this.#over) return
    this.#fail(closedError('bus'))
  }

  #wake(): void {
    if (this.#over) return
    let epoch: number
    try {
      epoch = this.#native.epoch()
    } catch (error) {
      this.#fail(fromNative(error))
      return
    }
    if (epoch === REFUSED) {
      const waiting = this.#waiting
      const failure = failureOf(() => this.#end())
      if (failure === undefined) waiting?.resolve(undefined)
      else waiting?.reject(failure)
    } else if (epoch !== ASKED) {
      this.#epoch = epoch
      if (channels.claim.held.hasSubscribers) channels.claim.held.publish({ claim: this })
      this.#waiting?.resolve(this)
    }
  }

  /** It cannot be had, or it is lost. */
  #fail(error: unknown): void {
    const waiting = this.#waiting
    const lost = this.held
    this.#endQuietly()
    waiting?.reject(error)
    if (!lost) return
    const reason = asRingbellError(error, 'claim')
    this.#lose(reason)
    if (channels.claim.lost.hasSubscribers) channels.claim.lost.publish({ claim: this, reason })
  }

  #release(): void {
    const held = this.held
    this.#end()
    if (held && channels.claim.released.hasSubscribers) channels.claim.released.publish({ claim: this })
  }

  /** Ends it where something else is to be told. What ending it throws is logged. */
  #endQuietly(): void {
    const failure = failureOf(() => this.#end())
    if (failure !== undefined) debug('ending a claim: %s', failure)
  }

  #end(): void {
    if (this.#over) return
    this.#over = true
    this.#ended(this)
    inSteps(
      () => poller().remove(this.#id),
      () => this.#native.close(),
    )
  }
}

export function checkClaim(options: object): void {
  check(options, CLAIM)
}
