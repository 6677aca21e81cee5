/**
 * Waiting for room in a ring: everybody who called `ready()`, in order. While they sleep, the slots are swept every 50 ms,
 * because a subscriber's death wakes nobody and `evictAfter` needs a clock; the timer exists for no longer than that.
 */
import { onAbort } from './abort.js'
import { closedError, fromNative } from './errors.js'
import type { NativePublisherHot } from './native.js'
import type { Poller } from './poller.js'
import { Turn } from './turn.js'
import { Waiter, type Awaited } from './waiter.js'
import type { WaitPolicy } from './waiting.js'

export const SWEEP_MS = 50
/** Pause instructions between two looks of the core. */
const PAUSES_A_LOOK = 16

interface Waiting {
  readonly bytes: number
  settle(error?: unknown): void
}

export class Room implements Awaited {
  readonly #hot: NativePublisherHot
  readonly #waiter: Waiter
  /** Somebody really has to wait. */
  readonly #full: (bytes: number) => void
  readonly #turn = new Turn()
  #waiting: Waiting[] = []
  /** Bytes of the one who asks without waiting. */
  #asked = 0
  #sweeper: NodeJS.Timeout | undefined

  constructor(hot: NativePublisherHot, policy: WaitPolicy, poller: Poller, full: (bytes: number) => void) {
    this.#hot = hot
    this.#full = full
    this.#waiter = new Waiter(this, policy, poller)
    this.#turn.begin()
  }

  set referenced(referenced: boolean) {
    this.#waiter.referenced = referenced
  }

  /** There is room right now, and nobody is ahead. */
  now(bytes: number): boolean {
    if (this.#waiting.length > 0 || this.#turn.due()) return false
    this.#asked = bytes
    return this.#hot.hasRoom(bytes) || (this.#waiter.glance() && this.#hot.hasRoom(bytes))
  }

  wait(bytes: number, signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const waiting: Waiting = {
        bytes,
        settle(error) {
          forget()
          if (error === undefined) resolve()
          else reject(error)
        },
      }
      const forget = onAbort(signal, (error) => {
        this.#waiting = this.#waiting.filter((one) => one !== waiting)
        waiting.settle(error)
        if (this.#waiting.length === 0) this.#stop()
        // Whoever is first now may need less.
        else this.#waiter.wake()
      })
      if (this.#waiting.push(waiting) === 1) {
        if (this.#turn.spent) setImmediate(() => this.#begin())
        else this.#waiter.start()
      }
      if (this.#waiter.waiting) this.#full(bytes)
    })
  }

  wake(): void {
    this.#waiter.wake()
  }

  close(): void {
    this.#stop()
    const waiting = this.#waiting
    this.#waiting = []
    for (const one of waiting) one.settle(closedError('publisher'))
  }

  poll(): boolean {
    const first = this.#waiting[0]
    return first !== undefined && this.#hot.hasRoom(first.bytes)
  }

  spin(iterations: number): boolean {
    return this.#hot.spinRoom(this.#waiting[0]?.bytes ?? this.#asked, Math.ceil(iterations / PAUSES_A_LOOK))
  }

  arm(): boolean {
    const asleep = this.#hot.armRoom(this.#waiting[0]?.bytes ?? 0)
    if (asleep) this.#sweeper ??= setInterval(() => this.#sweep(), SWEEP_MS).unref()
    return asleep
  }

  ready(): void {
    this.#turn.begin()
    while (this.poll()) this.#waiting.shift()?.settle()
    if (this.#waiting.length > 0) this.#waiter.start()
    else this.#stop()
  }

  failed(error: unknown): void {
    this.#stop()
    const waiting = this.#waiting
    this.#waiting = []
    for (const one of waiting) one.settle(fromNative(error))
  }

  /** A fresh macrotask, after the turn was used up. */
  #begin(): void {
    if (this.#waiting.length === 0) return
    try {
      this.ready()
      if (this.#waiter.waiting) for (const { bytes } of this.#waiting.slice()) this.#full(bytes)
    } catch (error) {
      this.failed(error)
    }
  }

  #sweep(): void {
    try {
      this.#hot.sweep()
    } catch (error) {
      this.failed(error)
      return
    }
    this.#waiter.wake()
  }

  #stop(): void {
    this.#waiter.stop()
    clearInterval(this.#sweeper)
    this.#sweeper = undefined
  }
}
