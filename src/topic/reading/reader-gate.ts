/**
 * Which reader a subscriber has, and how it waits. At most one reader may iterate or listen, and at most one may wait.
 * A second one is refused with `ERR_RINGBELL_BUSY`, because messages would go to either at random. Every read goes
 * through here, so closing has to end only the gate.
 */
import { withMismatch } from '../../bus/kind-mismatch.js'
import { type AbortError, busy, closedError, fromNative } from '../../errors.js'
import type { NativeSubscriberHot } from '../../native.js'
import type { WaitPolicy } from '../../wait/policy.js'
import type { Poller } from '../../wait/poller.js'
import type { Gate, Holder, Reader } from '../../wait/reader.js'
import { type Awaited, Waiter } from '../../wait/waiter.js'

/** What the gate asks of a native object. */
type Waited = Pick<NativeSubscriberHot, 'arm'>

/** What may wait here, and how error texts call what it does. */
const WORDS = {
  subscriber: { held: 'is being iterated or listened to', item: 'message' },
  'state reader': { held: 'is being iterated', item: 'value' },
} as const

export class ReaderGate implements Awaited, Gate {
  readonly what: keyof typeof WORDS
  readonly explain: (error: AbortError) => AbortError
  readonly #hot: Waited
  readonly #waiter: Waiter
  #reader: Reader | undefined
  #holder: Holder | undefined
  #fresh: NodeJS.Immediate | undefined
  #closed = false

  /** `why`: why there is no publisher, in words. `what`: what waits, in error texts. */
  constructor(
    hot: Waited,
    policy: WaitPolicy,
    poller: Poller,
    why: () => string | undefined,
    what: keyof typeof WORDS = 'subscriber',
  ) {
    this.#hot = hot
    this.what = what
    this.explain = (error) => withMismatch(error, why())
    this.#waiter = new Waiter(this, policy, poller)
  }

  get closed(): boolean {
    return this.#closed
  }

  set referenced(referenced: boolean) {
    this.#waiter.referenced = referenced
  }

  /** @throws {RingbellError} `ERR_RINGBELL_CLOSED`. */
  assertOpen(): void {
    if (this.#closed) throw closedError(this.what)
  }

  /** @throws {RingbellError} `ERR_RINGBELL_BUSY`, `ERR_RINGBELL_CLOSED`. */
  hold(holder: Holder): void {
    this.assertOpen()
    if (this.#holder !== undefined) throw busy(WORDS[this.what].held, this.what)
    this.#holder = holder
  }

  letGo(holder: Holder): void {
    if (this.#holder === holder) this.#holder = undefined
  }

  /** @throws {RingbellError} `ERR_RINGBELL_BUSY`, `ERR_RINGBELL_CLOSED`. */
  assertFree(): void {
    this.assertOpen()
    if (this.#reader !== undefined)
      throw busy(`already has a call that waits for its next ${WORDS[this.what].item}`, this.what)
  }

  get glance(): number {
    return this.#waiter.glance
  }

  wait(reader: Reader): void {
    this.#reader = reader
    this.#waiter.start()
  }

  waitFresh(reader: Reader): void {
    this.#reader = reader
    this.#fresh = setImmediate(() => this.#begin())
  }

  callOff(reader: Reader): void {
    if (this.#reader !== reader) return
    this.#reader = undefined
    this.#calm()
    this.#waiter.stop()
  }

  /** The poller calls it. `true` when a reader waits, which then handles it. */
  wake(): boolean {
    if (this.#reader === undefined) return false
    this.#waiter.wake()
    return true
  }

  close(): void {
    this.#closed = true
    this.#calm()
    this.#waiter.stop()
    const reader = this.#reader
    const holder = this.#holder
    this.#reader = undefined
    this.#holder = undefined
    reader?.closed()
    holder?.closed()
  }

  poll(iterations: number): boolean {
    return this.#reader !== undefined && this.#reader.messages.refill(iterations)
  }

  arm(): boolean {
    return this.#hot.arm()
  }

  ready(): void {
    const reader = this.#reader
    this.#reader = undefined
    reader?.ready()
  }

  failed(error: unknown): void {
    const reader = this.#reader
    this.#reader = undefined
    reader?.failed(fromNative(error))
  }

  #begin(): void {
    this.#fresh = undefined
    try {
      if (this.poll(0)) this.ready()
      else this.#waiter.start()
    } catch (error) {
      this.failed(error)
    }
  }

  #calm(): void {
    clearImmediate(this.#fresh)
    this.#fresh = undefined
  }
}
