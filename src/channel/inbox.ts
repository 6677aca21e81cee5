/**
 * What has arrived for one reader and is not taken yet: plain messages of a connection, or chunks of a streamed reply.
 * It has the same readers as a topic (wait/iteration.ts, wait/once.ts). Credit limits how far the sender may be ahead.
 * Items are decoded when they are taken, so a value that cannot be decoded fails only its reader.
 */
import { busy, closedError } from '../errors.js'
import { type Envelope, headersBehind } from '../headers.js'
import { Fifo } from '../wait/fifo.js'
import type { Gate, Holder, MessageSource, Reader } from '../wait/reader.js'

/** An item with headers, which lie behind its data. Most items have none, and then the data alone is kept. */
class Headed {
  readonly data: Uint8Array
  readonly headers: number

  constructor(data: Uint8Array, headers: number) {
    this.data = data
    this.headers = headers
  }
}

/** What an inbox needs from its owner. */
export interface InboxHost<V> {
  /** Its name in error texts. */
  readonly what: string
  decode(data: Uint8Array): V
  /** A reader begins to wait, or stops waiting. */
  waiting(waits: boolean): void
  /** An item of so many bytes, headers included, was taken. */
  taken(bytes: number): void
  /** The reader has left. */
  left(): void
  /** Adds to the error of a wait that a signal ended why nothing came. */
  readonly explain?: Gate['explain']
}

export class Inbox<V> implements MessageSource<V>, Gate {
  readonly what: string
  readonly explain: Gate['explain']
  readonly #host: InboxHost<V>
  readonly #items = new Fifo<Uint8Array | Headed>()
  #reader: Reader | undefined
  #holder: Holder | undefined
  #fresh: NodeJS.Immediate | undefined
  #ended = false
  #error: unknown = undefined

  constructor(host: InboxHost<V>) {
    this.what = host.what
    this.explain = host.explain
    this.#host = host
  }

  /** Nothing more will come. */
  get ended(): boolean {
    return this.#ended
  }

  push(data: Uint8Array, headers = 0): void {
    this.#items.push(headers === 0 ? data : new Headed(data, headers))
    if (this.#fresh === undefined) this.#answer()
  }

  /** Nothing more will come. What is there can still be taken. */
  end(error?: unknown): void {
    if (this.#ended) return
    this.#ended = true
    this.#error = error
    if (this.#fresh === undefined) this.#answer()
  }

  refill(): boolean {
    return this.#items.size > 0
  }

  take(): V {
    return this.#host.decode(this.#shift().data)
  }

  /** The same items, with their headers. */
  readonly envelopes: MessageSource<Envelope<V>> = {
    refill: () => this.refill(),
    take: () => {
      const { data, headers } = this.#shift()
      return { value: this.#host.decode(data), headers: headersBehind(data, headers) }
    },
    leave: () => this.leave(),
  }

  #shift(): Headed {
    const item = this.#items.shift() as Uint8Array | Headed
    const headed = item instanceof Headed ? item : new Headed(item, 0)
    this.#host.taken(headed.data.byteLength + headed.headers)
    return headed
  }

  leave(): void {
    this.#host.left()
  }

  /** Drops everything that was not taken. */
  clear(): void {
    this.#items.clear()
  }

  hold(holder: Holder): void {
    if (this.#holder !== undefined) throw busy('is being iterated', this.what)
    this.#holder = holder
  }

  letGo(holder: Holder): void {
    if (this.#holder === holder) this.#holder = undefined
  }

  assertFree(): void {
    if (this.#reader !== undefined) throw busy('already has a call that waits for what comes next', this.what)
  }

  /** It does not spin, because the endpoint does so for all of its connections. */
  get glance(): number {
    return 0
  }

  wait(reader: Reader): void {
    this.#reader = reader
    this.#host.waiting(true)
    this.#answer()
  }

  waitFresh(reader: Reader): void {
    this.#reader = reader
    this.#host.waiting(true)
    this.#fresh = setImmediate(() => {
      this.#fresh = undefined
      this.#answer()
    })
  }

  callOff(reader: Reader): void {
    if (this.#reader === reader) this.#release()
  }

  /** Notifies the waiting reader of an item, or of the end. */
  #answer(): void {
    const reader = this.#reader
    if (reader === undefined) return
    if (this.refill()) {
      this.#release()
      reader.ready()
    } else if (this.#ended) {
      this.#release()
      if (this.#error === undefined) reader.closed()
      else reader.failed(this.#error)
    }
  }

  #release(): void {
    this.#reader = undefined
    clearImmediate(this.#fresh)
    this.#fresh = undefined
    this.#host.waiting(false)
  }

  /** Throws if nothing is left to take and nothing more will come. */
  assertGoesOn(): void {
    if (this.#ended && !this.refill()) throw this.#error ?? closedError(this.what)
  }
}
