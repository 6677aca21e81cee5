/**
 * The subscribers of a publisher: waiting for them, and the events of those that come, stall and go. The publisher
 * listens only while somebody wants to know, and costs nothing otherwise. A subscriber that comes or leaves wakes it. A
 * death wakes nobody, and a stall depends on the clock, so a timer sweeps the slots meanwhile. If the core fails, the
 * publisher listens no more until somebody wants to know again: who waits is rejected, otherwise a process warning tells.
 */
import type { Rung } from '../bus/service.js'
import { failureOf } from '../closing.js'
import { channels } from '../diagnostics.js'
import { reason, translated } from '../errors.js'
import type { NativePublisher } from '../native.js'
import type { Emitter } from '../wait/emitter.js'
import { EventQueue } from '../wait/event-queue.js'
import type { Poller } from '../wait/poller.js'
import { Attaching } from './attaching.js'

/** A subscriber that is attached to a publisher. All events of one subscriber have the same object. */
export interface AttachedSubscriber {
  /** Its slot. Another subscriber may have the slot after it. */
  readonly slot: number
  /** Its process, in its own pid namespace. The subscriber states it itself. */
  readonly pid: number
  /** The user of a guest, as the kernel reports it. Others belong to the publisher's user, or to root. */
  readonly uid?: number
  /** The rung by which it reads. The subscriber states it itself; `null` if it did not. */
  readonly rung: Rung | null
  /** Whether its position is kept under a name. */
  readonly durable: boolean
}

/**
 * The events of a publisher. The first listener hears of all subscribers that are attached. A subscriber that comes and
 * leaves while the event loop is busy may not be told of. A death or a stall is noticed within 250 ms. Listeners do not
 * keep the process alive. There are no events after `close()`. If the core fails, calls of
 * `attached()` that wait are rejected, or else a process warning (`RINGBELL_FAILED`) says so. Then there are none until a
 * listener is added again.
 */
export interface PublisherEvents {
  /** A subscriber has attached. It gets all messages from now on. */
  attached: [subscriber: AttachedSubscriber]
  /**
   * A subscriber is gone. `'unknown'`: it was closed or died; over a stream both look the same. So they do if others
   * had its slot meanwhile.
   */
  ended: [subscriber: AttachedSubscriber, reason: 'closed' | 'died' | 'evicted' | 'unknown']
  /**
   * A subscriber has left no room for a message for so many milliseconds: half of `evictAfter`, and a second at most. Once
   * for each stall. Not with `drop-oldest`, which waits for no subscriber.
   */
  stalled: [subscriber: AttachedSubscriber, milliseconds: number]
  /**
   * The publisher went on without a subscriber, which left no room for longer than `evictAfter`, or broke a rule of the
   * protocol, or was a guest whose place a user with fewer guests needed. `'ended'` follows.
   */
  evicted: [subscriber: AttachedSubscriber, reason: 'stalled' | 'brokeRules' | 'displaced']
}

type Told = AttachedSubscriber & { readonly number: number }
type Notice =
  | { type: 'attached'; subscriber: Told }
  | { type: 'ended'; subscriber: Told; reason: PublisherEvents['ended'][1] }
  | { type: 'stalled'; subscriber: Told; milliseconds: number }
  | { type: 'evicted'; subscriber: Told; reason: PublisherEvents['evicted'][1] }

const EVENTS = ['attached', 'ended', 'stalled', 'evicted'] as const
const SWEEP_MS = 250

export class Audience {
  readonly #native: NativePublisher
  readonly #sweepSlots: () => void
  readonly #emitter: Emitter<PublisherEvents>
  readonly #events: EventQueue<PublisherEvents>
  readonly #attaching: Attaching
  readonly #subscribers = new Map<number, AttachedSubscriber>()
  /** It exists while the publisher listens. */
  #timer: NodeJS.Timeout | undefined
  #closed = false

  constructor(native: NativePublisher, sweep: () => void, emitter: Emitter<PublisherEvents>, poller: Poller) {
    this.#native = native
    this.#sweepSlots = sweep
    this.#emitter = emitter
    this.#events = new EventQueue(emitter, 'publisher', channels.publisher)
    this.#attaching = new Attaching(
      (count) => native.areAttached(count),
      poller,
      () => `${native.subscribers} attached so far`,
    )
  }

  set referenced(referenced: boolean) {
    this.#attaching.referenced = referenced
  }

  /** Waits until `count` subscribers are attached. */
  async wait(count: number, signal: AbortSignal | undefined): Promise<void> {
    if (translated(() => this.#native.areAttached(count))) return
    const wait = this.#attaching.wait(count, signal)
    const failure = failureOf(() => this.listen())
    if (failure !== undefined) this.#attaching.fail(failure)
    await wait
  }

  /**
   * Begins to listen, if somebody wants to know.
   *
   * @throws {RingbellError}
   */
  listen(): void {
    if (this.#closed || this.#timer !== undefined || !this.#wanted()) return
    translated(() => this.#look())
    this.#timer = setInterval(() => this.#attempt(() => this.#sweep()), SWEEP_MS).unref()
  }

  /** The doorbell rang, perhaps for another reason. */
  wake(): void {
    if (this.#timer === undefined) return
    this.#attempt(() => {
      if (this.#native.isRung()) this.#look()
    })
  }

  /** Ends it: no more events, and the waits are rejected. */
  close(error: unknown): void {
    this.#closed = true
    this.#rest()
    this.#events.clear()
    this.#attaching.fail(error)
  }

  #heard(): boolean {
    return EVENTS.some((event) => this.#emitter.listenerCount(event) > 0 || channels.publisher[event].hasSubscribers)
  }

  #wanted(): boolean {
    return this.#attaching.pending || this.#heard()
  }

  #sweep(): void {
    if (this.#wanted()) {
      this.#sweepSlots()
      this.#look()
      return
    }
    this.#rest()
    this.#native.stopListening()
  }

  #rest(): void {
    clearInterval(this.#timer)
    this.#timer = undefined
  }

  /** Nobody called for this, so nobody could catch what it throws. */
  #attempt(step: () => void): void {
    const failure = failureOf(step)
    if (failure === undefined) return
    this.#rest()
    if (this.#attaching.pending) return this.#attaching.fail(failure)
    const told = `This publisher tells no more of its subscribers: ${reason(failure)}`
    process.emitWarning(told, { type: 'RingbellWarning', code: 'RINGBELL_FAILED' })
  }

  #look(): void {
    if (this.#heard()) this.#tell()
    // What happens now is told to the first listener.
    else this.#native.listen()
    this.#attaching.check()
  }

  #tell(): void {
    const json = this.#native.notices()
    if (json === '') return
    for (const notice of JSON.parse(json) as Notice[]) this.#note(notice)
  }

  #note(notice: Notice): void {
    const { number, ...told } = notice.subscriber
    const subscriber = this.#subscribers.get(number) ?? told
    switch (notice.type) {
      case 'attached':
        this.#subscribers.set(number, subscriber)
        return this.#events.add('attached', subscriber)
      case 'stalled':
        return this.#events.add('stalled', subscriber, notice.milliseconds)
      case 'evicted':
        return this.#events.add('evicted', subscriber, notice.reason)
      case 'ended':
        this.#subscribers.delete(number)
        return this.#events.add('ended', subscriber, notice.reason)
    }
  }
}
