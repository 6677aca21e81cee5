/**
 * Delivery by callback: the fastest way for one message at a time, since nothing is allocated but the message. The
 * callback runs for as long as the turn lasts, then others get theirs. Its exception ends the listening and rejects `finished`.
 */
import { onAbort, throwIfAborted } from '../../wait/abort.js'
import { fromNative } from '../../errors.js'
import type { Inflow, Holder, Reader } from '../../wait/reader.js'
import type { Reception } from './reader-gate.js'
import { Turn } from '../../wait/time-slice.js'

/** What `listen` returns. */
export interface Listening {
  /**
   * Resolves when it was stopped, by `stop()`, the signal (which rejects nothing here), or the subscriber's `close()`; rejects
   * with the callback's own exception. Left alone, that is an unhandled rejection, as loud as an uncaught exception.
   */
  readonly finished: Promise<void>
  /** No further call; idempotent. What was not delivered stays for the next reader. */
  stop(): void
  [Symbol.dispose](): void
}

/** An inflow that says when events come first. */
interface Ordered<V> extends Inflow<V> {
  readonly untold: boolean
}

export class Listener<V> implements Listening, Reader, Holder {
  readonly finished: Promise<void>
  readonly inflow: Ordered<V>
  readonly #reception: Reception
  readonly #deliver: (one: V) => void
  readonly #turn = new Turn()
  readonly #forget: () => void
  readonly #run = (): void => this.#deliverAll()
  #immediate: NodeJS.Immediate | undefined
  #resolve!: () => void
  #reject!: (error: unknown) => void
  #done = false

  /** @throws {RingbellError} `ERR_RINGBELL_BUSY` while somebody else reads. */
  constructor(inflow: Ordered<V>, reception: Reception, deliver: (one: V) => void, signal: AbortSignal | undefined) {
    throwIfAborted(signal)
    this.inflow = inflow
    this.#reception = reception
    this.#deliver = deliver
    reception.assertFree()
    reception.hold(this)
    this.finished = new Promise((resolve, reject) => {
      this.#resolve = resolve
      this.#reject = reject
    })
    this.#forget = onAbort(signal, () => this.stop())
    this.#immediate = setImmediate(this.#run)
  }

  stop(): void {
    if (this.#end()) this.#resolve()
  }

  [Symbol.dispose](): void {
    this.stop()
  }

  ready(): void {
    this.#deliverAll()
  }

  failed(error: unknown): void {
    if (this.#end()) this.#reject(error)
  }

  closed(): void {
    this.stop()
  }

  #deliverAll(): void {
    this.#immediate = undefined
    const { inflow } = this
    const turn = this.#turn
    const deliver = this.#deliver
    turn.begin()
    try {
      do {
        while (inflow.refill()) {
          // Of a publisher whose `attached` is not told yet.
          if (inflow.untold) {
            this.#immediate = setImmediate(this.#run)
            return
          }
          deliver(inflow.take())
          if (this.#done) return
          if (turn.due()) {
            this.#immediate = setImmediate(this.#run)
            return
          }
        }
        if (this.#done) return
      } while (this.#reception.glance())
      this.#reception.assertFree()
    } catch (error) {
      this.failed(fromNative(error))
      return
    }
    this.#reception.wait(this)
  }

  #end(): boolean {
    if (this.#done) return false
    this.#done = true
    clearImmediate(this.#immediate)
    this.#forget()
    this.#reception.callOff(this)
    this.#reception.letGo(this)
    this.inflow.leave()
    return true
  }
}
