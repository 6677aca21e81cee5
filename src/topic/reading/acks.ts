/**
 * When a message is done, and when that is acknowledged to its publisher. With `batch`, a message is done when its
 * reader asks for the next one, or the callback has returned. Acknowledgements are sent after a number of messages,
 * after a time, and before the subscriber sleeps. So an idle subscriber has none pending. With `deferred`, the user
 * acknowledges. The timer runs only while an acknowledgement is pending, and does not keep the process alive.
 */
import { invalid } from '../../invalid.js'
import type { NativeSubscriberHot } from '../../native.js'
import type { Source } from '../sources.js'

/** When a message counts as done. */
export type AckMode = 'immediate' | 'batch' | 'deferred'

export interface AckPolicy {
  readonly mode: 'batch' | 'deferred'
  /** Messages that are acknowledged at once. */
  readonly batch: number
  /** Milliseconds that an acknowledgement may wait. */
  readonly interval: number
}

export class Acks {
  readonly #tell: NativeSubscriberHot['ack']
  readonly #policy: AckPolicy
  readonly #automatic: boolean
  readonly #failed: (error: unknown) => void
  readonly #due = (): void => {
    this.#armed = false
    try {
      this.flush()
    } catch (error) {
      // No call of the user is running that could throw it.
      this.#failed(error)
    }
  }
  /** Messages that were handed out and may still be in use. */
  #inHand = 0
  #inHandSource = -1
  #inHandSequence = 0
  /** Messages that are done and not acknowledged, all of one source. */
  #done = 0
  #doneSource = -1
  #doneSequence = 0
  #timer: NodeJS.Timeout | undefined
  #armed = false

  /** `failed` gets an error of an acknowledgement that the timer made. */
  constructor(tell: NativeSubscriberHot['ack'], policy: AckPolicy, failed: (error: unknown) => void) {
    this.#tell = tell
    this.#policy = policy
    this.#failed = failed
    this.#automatic = policy.mode === 'batch'
  }

  /** `count` messages were handed out; the last one has this sequence. */
  took(source: Source, sequence: number, count: number): void {
    source.taken = sequence + 1
    if (!this.#automatic) return
    this.#inHand = count
    this.#inHandSource = source.number
    this.#inHandSequence = sequence
  }

  /** A reader asks for the next one: what was handed out is done. */
  asked(): void {
    const count = this.#inHand
    if (count === 0) return
    this.#inHand = 0
    if (this.#doneSource !== this.#inHandSource) this.flush()
    this.#doneSource = this.#inHandSource
    this.#doneSequence = this.#inHandSequence
    this.#done += count
    if (this.#done >= this.#policy.batch) this.flush()
    else if (!this.#armed) this.#arm()
  }

  /** Acknowledges what is done. */
  flush(): void {
    if (this.#done === 0) return
    this.#done = 0
    this.#tell(this.#doneSource, this.#doneSequence)
  }

  /** @throws {RingbellError} `ERR_RINGBELL_INVALID_OPTION` for a message that was not handed out. */
  upTo(source: Source, sequence: number): boolean {
    if (sequence >= source.taken) {
      const last = source.taken === 0 ? 'none was' : `the last one has sequence ${source.taken - 1}`
      throw invalid('upTo', sequence, `must be a message that was received; ${last}`)
    }
    return this.#tell(source.number, sequence)
  }

  /** The hot calls for a waiter. They acknowledge what is done before the waiter sleeps. */
  beforeSleep(hot: NativeSubscriberHot): NativeSubscriberHot {
    const { arm } = hot
    return {
      ...hot,
      arm: () => {
        this.flush()
        return arm()
      },
    }
  }

  close(): void {
    clearTimeout(this.#timer)
    this.#armed = true
    this.flush()
  }

  #arm(): void {
    this.#armed = true
    if (this.#timer === undefined) this.#timer = setTimeout(this.#due, this.#policy.interval).unref()
    else this.#timer.refresh()
  }
}
