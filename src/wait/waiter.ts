/**
 * The wait of one endpoint. It spins between iterations of the event loop as long as the policy allows, then arms the doorbell and
 * sleeps until the poller calls `wake`. There is at most one wait at a time. While it lasts, and the endpoint is referenced, it keeps the
 * process alive. An unreferenced endpoint sleeps at once: an immediate would keep the process alive, and an unreferenced immediate does
 * not keep the loop from blocking, so nothing would wake it.
 */
import type { WaitPolicy } from './policy.js'
import type { Poller } from './poller.js'

/** What a waiter waits on. */
export interface Awaited {
  /**
   * Returns whether something is there, or comes within `iterations` pause instructions. It may take something in, but
   * delivers nothing.
   */
  poll(iterations: number): boolean
  /** Called after `poll` returned `true`; the wait is over. It delivers, and may start the next wait. */
  ready(): void
  /** Asks the doorbell to ring. `false`: there is something already. */
  arm(): boolean
  /** One of the calls above threw, and the wait is over. The reader must get the error. */
  failed(error: unknown): void
}

const now = performance.now.bind(performance)
/** How often something that comes between arming and sleeping is polled at once. After that the event loop runs first. */
const ARM_TRIES = 4

export class Waiter {
  readonly #awaited: Awaited
  readonly #policy: WaitPolicy
  readonly #poller: Poller
  readonly #onImmediate = (): void => this.#spin()
  #state: 'idle' | 'spinning' | 'asleep' = 'idle'
  #immediate: NodeJS.Immediate | undefined
  #since = 0
  #until = 0
  #slept = false
  #held = false
  #referenced = true

  constructor(awaited: Awaited, policy: WaitPolicy, poller: Poller) {
    this.#awaited = awaited
    this.#policy = policy
    this.#poller = poller
  }

  get waiting(): boolean {
    return this.#state !== 'idle'
  }

  /** Pause instructions that a short spin may take now; 0 if it is not worth while. */
  get glance(): number {
    return this.#policy.lively ? this.#policy.slice : 0
  }

  /** Begins to wait. Call it after `poll` has found nothing. */
  start(): void {
    if (this.#state !== 'idle') return
    this.#since = now()
    this.#slept = false
    const patience = this.#policy.patience
    if (patience > 0 && this.#referenced) {
      this.#until = this.#since + patience
      this.#again()
    } else {
      this.#sleep()
    }
  }

  /** Ends the wait without a result. */
  stop(): void {
    this.#state = 'idle'
    if (this.#immediate !== undefined) {
      clearImmediate(this.#immediate)
      this.#immediate = undefined
    }
    this.#hold(false)
  }

  /** The doorbell rang, or something else happened to the endpoint. */
  wake(): void {
    if (this.#state !== 'asleep') return
    if (this.#poll()) this.#found()
    else if (this.waiting) this.#sleep()
  }

  /**
   * Whether waiting keeps the process alive. If it no longer does, a waiter that spins goes to sleep in the next turn
   * of the loop.
   */
  set referenced(referenced: boolean) {
    this.#referenced = referenced
    if (this.#state === 'asleep') this.#hold(referenced)
  }

  #spin(): void {
    this.#immediate = undefined
    if (this.#poll(this.#policy.slice)) this.#found()
    else if (!this.waiting) return
    else if (!this.#referenced) this.#sleep()
    else if (now() < this.#until) this.#again()
    else {
      this.#policy.inVain()
      this.#sleep()
    }
  }

  /** After an error this returns `false`, and the wait has ended. */
  #poll(iterations = 0): boolean {
    try {
      return this.#awaited.poll(iterations)
    } catch (error) {
      this.#fail(error)
      return false
    }
  }

  #again(): void {
    this.#state = 'spinning'
    this.#immediate = setImmediate(this.#onImmediate)
  }

  #sleep(): void {
    this.#state = 'asleep'
    for (let tries = 0; !this.#arm(); tries++) {
      if (this.#poll()) {
        this.#found()
        return
      }
      if (!this.waiting) return
      if (tries === ARM_TRIES) {
        this.#again()
        return
      }
    }
    if (!this.waiting) return
    this.#slept = true
    this.#poller.hurry()
    this.#hold(this.#referenced)
  }

  #arm(): boolean {
    try {
      return this.#awaited.arm()
    } catch (error) {
      this.#fail(error)
      return true
    }
  }

  #found(): void {
    this.#policy.arrived(now() - this.#since, this.#slept)
    this.#state = 'idle'
    try {
      this.#awaited.ready()
    } finally {
      // Usually the next wait has begun by now, and the poller stays held.
      if (this.#state === 'idle') this.#hold(false)
    }
  }

  #fail(error: unknown): void {
    this.stop()
    this.#awaited.failed(error)
  }

  #hold(hold: boolean): void {
    if (hold === this.#held) return
    this.#held = hold
    if (hold) this.#poller.hold()
    else this.#poller.drop()
  }
}
