/**
 * What has arrived for one reader and was not taken yet: plain messages of a connection, chunks of a streamed reply. Readers
 * are the same as a subscriber's (iteration.ts, once.ts). How far the sender may be ahead is credit's matter, not this
 * file's; decoding happens when something is taken, so a value that cannot be decoded costs its reader alone.
 */
import { busy, closedError } from '../errors.js'
import type { Inflow, Holder, Receiving, Waiting } from '../wait/reader.js'

/** What an inbox needs of its surroundings. */
export interface InboxHost<V> {
  /** What users know it as. */
  readonly what: string
  decode(data: Uint8Array): V
  /** A reader waits, or not any more. */
  waiting(waits: boolean): void
  /** So many bytes were taken, in one piece. */
  taken(bytes: number): void
  /** The reader has left. */
  left(): void
}

export class Inbox<V> implements Inflow<V>, Receiving {
  readonly what: string
  readonly #host: InboxHost<V>
  #items: Uint8Array[] = []
  #at = 0
  #waiting: Waiting | undefined
  #holder: Holder | undefined
  #fresh: NodeJS.Immediate | undefined
  #ended = false
  #error: unknown = undefined

  constructor(host: InboxHost<V>) {
    this.what = host.what
    this.#host = host
  }

  /** Nothing more will come. */
  get ended(): boolean {
    return this.#ended
  }

  push(data: Uint8Array): void {
    this.#items.push(data)
    if (this.#fresh === undefined) this.#answer()
  }

  /** Nothing more comes; what is there can still be taken. */
  end(error?: unknown): void {
    if (this.#ended) return
    this.#ended = true
    this.#error = error
    if (this.#fresh === undefined) this.#answer()
  }

  refill(): boolean {
    return this.#at < this.#items.length
  }

  take(): V {
    const data = this.#items[this.#at++] as Uint8Array
    if (this.#at === this.#items.length) {
      this.#items = []
      this.#at = 0
    }
    this.#host.taken(data.byteLength)
    return this.#host.decode(data)
  }

  leave(): void {
    this.#host.left()
  }

  /** Forgets everything that was not taken. */
  clear(): void {
    this.#items = []
    this.#at = 0
  }

  hold(holder: Holder): void {
    if (this.#holder !== undefined) throw busy('is being iterated', this.what)
    this.#holder = holder
  }

  letGo(holder: Holder): void {
    if (this.#holder === holder) this.#holder = undefined
  }

  assertFree(): void {
    if (this.#waiting !== undefined) throw busy('already has somebody waiting for what comes next', this.what)
  }

  /** The endpoint looks by itself, for all of its connections. */
  glance(): boolean {
    return false
  }

  wait(waiting: Waiting): void {
    this.#waiting = waiting
    this.#host.waiting(true)
    this.#answer()
  }

  waitFresh(waiting: Waiting): void {
    this.#waiting = waiting
    this.#host.waiting(true)
    this.#fresh = setImmediate(() => {
      this.#fresh = undefined
      this.#answer()
    })
  }

  callOff(waiting: Waiting): void {
    if (this.#waiting === waiting) this.#release()
  }

  /** Whoever waits is told what there is. */
  #answer(): void {
    const waiting = this.#waiting
    if (waiting === undefined) return
    if (this.refill()) {
      this.#release()
      waiting.ready()
    } else if (this.#ended) {
      this.#release()
      if (this.#error === undefined) waiting.closed()
      else waiting.failed(this.#error)
    }
  }

  #release(): void {
    this.#waiting = undefined
    clearImmediate(this.#fresh)
    this.#fresh = undefined
    this.#host.waiting(false)
  }

  /** The end, for who asks without waiting. */
  assertGoesOn(): void {
    if (this.#ended && !this.refill()) throw this.#error ?? closedError(this.what)
  }
}
