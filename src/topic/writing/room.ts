/**
 * Waiting for room in a ring: all calls of `ready()` and `write()`, in line. While they sleep, the slots are swept
 * every 50 ms, because the death of a subscriber wakes no process and `evictAfter` needs a clock. The timer exists only
 * for that time. Once a write is first in line, nothing else is sent before it is done (`writing`).
 */
import { failureOf } from '../../closing.js'
import { closedError, fromNative } from '../../errors.js'
import type { NativePublisherHot } from '../../native.js'
import { Fifo } from '../../wait/fifo.js'
import type { WaitPolicy } from '../../wait/policy.js'
import type { Poller } from '../../wait/poller.js'
import { TimeSlice } from '../../wait/time-slice.js'
import { type Awaited, Waiter } from '../../wait/waiter.js'
import { waitFor, type Waiting } from '../../wait/waiting.js'
import { type Headed, Write } from './write.js'

const SWEEP_MS = 50
/** Pause instructions between two checks of the core. */
const PAUSES_A_LOOK = 16

/** A call in line. */
interface InLine extends Waiting {
  /** The bytes of payload that it waits for room for. */
  readonly bytes: number
  /** The bytes of payload that there must be room for before it is served. */
  readonly least: number
  /** The message to send; `undefined` for a call that only waits. */
  readonly write: Write | undefined
  told: boolean
}

export class Room implements Awaited {
  /** A write has begun, or waits for room: everything else has to wait for it. */
  writing = false
  readonly #hot: NativePublisherHot
  readonly #waiter: Waiter
  /** Is called when a call really has to wait. */
  readonly #full: (bytes: number) => void
  readonly #timeSlice: TimeSlice
  readonly #line = new Fifo<InLine>()
  #sweeper: NodeJS.Timeout | undefined
  /** Set while other code runs first. */
  #pause: NodeJS.Immediate | undefined

  constructor(
    hot: NativePublisherHot,
    policy: WaitPolicy,
    poller: Poller,
    full: (bytes: number) => void,
    timeSlice = new TimeSlice(),
  ) {
    this.#hot = hot
    this.#full = full
    this.#timeSlice = timeSlice
    this.#waiter = new Waiter(this, policy, poller)
    this.#timeSlice.begin()
  }

  set referenced(referenced: boolean) {
    this.#waiter.referenced = referenced
  }

  /** Whether there is room now and no call is in line. */
  now(bytes: number): boolean {
    if (this.#line.size > 0 || this.#timeSlice.due()) return false
    return this.#hot.hasRoom(bytes) || (this.#spin(bytes, this.#waiter.glance) && this.#hot.hasRoom(bytes))
  }

  /** Waits for room. Call it after `now` has returned `false`. */
  wait(bytes: number, signal: AbortSignal | undefined): Promise<void> {
    return this.#join(bytes, bytes, undefined, signal)
  }

  /** Sends a message of any size; a message above `atOnce` bytes goes in pieces. It begins at once if no call is in line. */
  write(data: Uint8Array, atOnce: number, signal: AbortSignal | undefined, headed?: Headed): Promise<void> {
    const { byteLength } = data
    // A message in pieces may begin in a full ring: nothing else would fit there, so it blocks nothing.
    const least = byteLength > atOnce ? 0 : byteLength
    return this.#join(byteLength, least, new Write(this.#hot, data, byteLength > atOnce, headed), signal)
  }

  wake(): void {
    this.#waiter.wake()
  }

  close(): void {
    this.fail(closedError('publisher'))
  }

  poll(iterations: number): boolean {
    const first = this.#line.peek()
    if (first === undefined) return false
    this.#spin(first.least, iterations)
    return this.#hot.hasRoom(first.least)
  }

  arm(): boolean {
    const asleep = this.#hot.armRoom(this.#line.peek()?.least ?? 0)
    if (asleep) this.#sweeper ??= setInterval(() => this.#sweep(), SWEEP_MS).unref()
    return asleep
  }

  ready(): void {
    this.#timeSlice.begin()
    this.#serve()
  }

  failed(error: unknown): void {
    this.fail(fromNative(error))
  }

  #join(bytes: number, least: number, write: Write | undefined, signal: AbortSignal | undefined): Promise<void> {
    return waitFor(
      (waiting) => {
        const one: InLine = { bytes, least, write, told: false, ...waiting }
        this.#line.push(one)
        if (this.#line.size === 1) {
          if (write !== undefined) this.#serve()
          else if (this.#timeSlice.spent) this.#later()
          else this.#waiter.start()
        }
        this.#tell()
        return () => this.#leave(one)
      },
      { signal },
    )
  }

  #spin(bytes: number, iterations: number): boolean {
    return iterations > 0 && this.#hot.spinRoom(bytes, Math.ceil(iterations / PAUSES_A_LOOK))
  }

  /** Serves the calls in line that there is room for, until the time slice is used up. */
  #serve(): void {
    let visited = false
    for (let first = this.#line.peek(); first !== undefined; first = this.#line.peek()) {
      const { write } = first
      // When `ready()` has resolved, its caller must find the room: what it sends next comes before a write behind
      // it.
      if (write !== undefined && visited) return this.#later()
      this.writing = write !== undefined
      try {
        if (!this.#hot.hasRoom(first.least)) return this.#waiter.start()
        const done = write?.proceed() ?? true
        const spent = this.#timeSlice.due()
        if (done) this.#finish(first, spent)
        if (spent) return this.#later()
        visited = done && write === undefined
      } catch (error) {
        first.reject(fromNative(error))
        // While it joins the line, the wait cannot take it out. What undoing it throws is not told besides.
        failureOf(() => this.#leave(first))
      }
    }
    this.#stop()
  }

  /** A call was served. It resolves at once, or after other code has run. */
  #finish(first: InLine, later: boolean): void {
    this.#line.shift()
    this.writing = false
    first.decide()
    if (later) setImmediate(() => first.resolve())
    else first.resolve()
  }

  /** A call leaves the line. If it was served already, nothing happens. */
  #leave(one: InLine): void {
    const isFirst = this.#line.peek() === one
    if (this.#line.take((other) => other === one) === undefined) return
    if (isFirst) {
      this.writing = false
      one.write?.abandon()
    }
    if (this.#line.size === 0) this.#stop()
    // The call that is first now may need less room.
    else this.#waiter.wake()
  }

  /** Continues in a fresh macrotask, after the time slice was used up. */
  #later(): void {
    this.#waiter.stop()
    this.#pause ??= setImmediate(() => {
      this.#pause = undefined
      this.ready()
      this.#tell()
    })
  }

  /** Reports every call that really waits, once. */
  #tell(): void {
    if (!this.#waiter.waiting) return
    for (const one of Array.from(this.#line)) {
      if (one.told) continue
      one.told = true
      this.#full(one.bytes)
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

  /** Rejects all calls in line. */
  fail(error: unknown): void {
    this.#stop()
    const line = [...this.#line]
    this.#line.clear()
    this.writing = false
    for (const one of line) one.reject(error)
  }

  #stop(): void {
    this.#waiter.stop()
    clearImmediate(this.#pause)
    this.#pause = undefined
    clearInterval(this.#sweeper)
    this.#sweeper = undefined
  }
}
