/**
 * Delivery by callback: the fastest way for single messages, because only the message is allocated. The callback is called until the
 * time slice is used up; then other code runs. What the callback throws, or its promise rejects with, ends the listening and rejects
 * `finished`.
 */
import { AsyncResource } from 'node:async_hooks'
import { failureOf } from '../../closing.js'
import { followed, isThenable } from '../../codec/schema.js'
import { fromNative } from '../../errors.js'
import { membersOf, shown, type ShownOptions } from '../../shown.js'
import { onAbort, throwIfAborted } from '../../wait/abort.js'
import type { Holder, MessageSource, Reader } from '../../wait/reader.js'
import { TimeSlice } from '../../wait/time-slice.js'
import type { ReaderGate } from './reader-gate.js'

/** What `listen` returns. */
export interface Listening {
  /**
   * Resolves when `stop()`, the signal or the subscriber's `close()` has stopped it. Rejects with an exception of the
   * callback. If that is not handled, it is an unhandled rejection, which ends the process as an uncaught exception
   * does.
   */
  readonly finished: Promise<void>
  /** Stops the calls of the callback; idempotent. What was not delivered stays for the next reader. */
  stop(): void
  /** `using`: as `stop()`. */
  [Symbol.dispose](): void
}

/** A source that knows when events must come first. */
interface Ordered<V> extends MessageSource<V> {
  readonly untold: boolean
}

export class Listener<V> implements Listening, Reader, Holder {
  readonly finished: Promise<void>
  readonly messages: Ordered<V>
  readonly #gate: ReaderGate
  readonly #deliver: (one: V) => unknown
  readonly #timeSlice = new TimeSlice()
  readonly #forget: () => void
  /** The context in which `listen` was called. Entered once for all that is there, because for each message it would cost too much. */
  readonly #scope = new AsyncResource('RINGBELL_LISTEN', { requireManualDestroy: true })
  readonly #run = (): void => this.#scope.runInAsyncScope(() => this.#deliverAll())
  #immediate: NodeJS.Immediate | undefined
  #resolve!: () => void
  #reject!: (error: unknown) => void
  #done = false

  /** @throws {RingbellError} `ERR_RINGBELL_BUSY` while there is another reader. */
  constructor(messages: Ordered<V>, gate: ReaderGate, deliver: (one: V) => unknown, signal: AbortSignal | undefined) {
    throwIfAborted(signal)
    this.messages = messages
    this.#gate = gate
    this.#deliver = deliver
    gate.assertFree()
    gate.hold(this)
    this.finished = new Promise((resolve, reject) => {
      this.#resolve = resolve
      this.#reject = reject
    })
    this.#forget = onAbort(signal, () => this.stop())
    this.#immediate = setImmediate(this.#run)
  }

  stop(): void {
    this.#end((failure) => (failure === undefined ? this.#resolve() : this.#reject(failure)))
  }

  /** `using`: as `stop()`. */
  [Symbol.dispose](): void {
    this.stop()
  }

  /** What `console.log` shows. */
  [Symbol.for('nodejs.util.inspect.custom')](depth: number | null, options: ShownOptions): string {
    return shown('Listening', membersOf(this, 'finished'), depth, options)
  }

  ready(): void {
    this.#run()
  }

  failed(error: unknown): void {
    this.#end(() => this.#reject(error))
  }

  closed(): void {
    this.stop()
  }

  #deliverAll(): void {
    this.#immediate = undefined
    const { messages } = this
    const timeSlice = this.#timeSlice
    const deliver = this.#deliver
    timeSlice.begin()
    try {
      while (messages.refill(this.#gate.glance)) {
        // The event `attached` of its publisher is not emitted yet.
        if (messages.untold) {
          this.#immediate = setImmediate(this.#run)
          return
        }
        const result = deliver(messages.take())
        if (isThenable(result)) this.#follow(result)
        if (this.#done) return
        if (timeSlice.due()) {
          this.#immediate = setImmediate(this.#run)
          return
        }
      }
      if (this.#done) return
      this.#gate.assertFree()
    } catch (error) {
      this.failed(fromNative(error))
      return
    }
    this.#gate.wait(this)
  }

  /** A rejection ends the listening. After the end it is an unhandled one, as of any promise that nobody awaits. */
  #follow(result: PromiseLike<unknown>): void {
    void followed(result).then(undefined, (error: unknown) => {
      if (this.#done) throw error
      this.failed(error)
    })
  }

  /** `settle` gets the error of leaving the messages, if there is one. */
  #end(settle: (failure: unknown) => void): void {
    if (this.#done) return
    this.#done = true
    clearImmediate(this.#immediate)
    this.#forget()
    this.#gate.callOff(this)
    this.#gate.letGo(this)
    settle(failureOf(() => this.messages.leave()))
  }
}
