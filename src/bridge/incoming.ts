/**
 * A publisher of another bus, as it appears on this one: a publisher of the same name, codec, schema and policy. Its messages are asked
 * for only while it has subscribers here. They are written in order, each once, at the pace of these subscribers; the other side sends
 * no more than a window ahead.
 *
 * If a packet is missing, the stream is asked for again from the last message that came.
 */
import type { AttachedSubscriber, Publisher } from '../index.js'
import { type Headed, headedOf } from './headed.js'
import { LARGEST_WINDOW } from './options.js'
import {
  type Entry,
  HEAD_BYTES,
  isMarkedAt,
  LENGTH_BYTES,
  lengthAt,
  type Packet,
  SEQUENCE_BYTES,
  type Wish,
} from './wire.js'

export interface IncomingHost {
  /** A number that no stream of this bridge has had. */
  newStream(): number
  /** It wants no more of this stream. */
  dropStream(stream: number): void
  /** What it wants has changed: `wish`. */
  wants(): void
  /** Packets up to this one of the stream are written. */
  taken(stream: number, number: number): void
  received(messages: number): void
  /** So many messages have not come. */
  missed(messages: number): void
  oversized(topic: string, bytes: number): void
  wrong(): void
  /** It cannot write any more. */
  failed(error: unknown): void
}

/** No honest bridge has more than its window under way. */
const MOST_QUEUED = 2 * LARGEST_WINDOW

export class Incoming {
  readonly #entry: Entry
  readonly #publisher: Publisher
  readonly #window: number
  readonly #host: IncomingHost
  readonly #subscribers = new Set<AttachedSubscriber>()
  /** 0: it wants none. */
  #stream = 0
  #expected = 1
  /** The sequence of the last message that came; -1: of none. */
  #last = -1
  #queue: Packet[] = []
  #queued = 0
  #writing = false
  #taken = 0
  /** Bytes that are written, and of which the other side was not told. */
  #untold = 0
  #closed = false

  constructor(entry: Entry, publisher: Publisher, window: number, host: IncomingHost) {
    this.#entry = entry
    this.#publisher = publisher
    this.#window = window
    this.#host = host
    publisher.on('attached', (subscriber) => this.#subscribed(subscriber))
    publisher.on('ended', (subscriber) => this.#unsubscribed(subscriber))
  }

  /** What it wants now; `undefined`: nothing. */
  get wish(): Wish | undefined {
    if (this.#stream === 0) return undefined
    const got = this.#expected - 1
    return { stream: this.#stream, id: this.#entry.id, after: this.#last, got, taken: this.#taken }
  }

  /** A packet of its stream has come. `false`: it wants none of this number. */
  data(packet: Packet): boolean {
    if (packet.a !== this.#stream) return false
    if (packet.b < this.#expected) return true
    if (packet.b > this.#expected) this.#again()
    else if (this.#queued + packet.body.byteLength > MOST_QUEUED) {
      this.#host.wrong()
      this.#again()
    } else {
      this.#expected++
      this.#queue.push(packet)
      this.#queued += HEAD_BYTES + packet.body.byteLength
      if (packet.body.byteLength > 0) this.#note(packet)
      if (!this.#writing) void this.#write()
    }
    return true
  }

  /** Another bridge has the instance now. */
  moved(): void {
    if (this.#stream > 0) this.#again()
  }

  close(): void {
    this.#closed = true
    this.#end()
  }

  #subscribed(subscriber: AttachedSubscriber): void {
    this.#subscribers.add(subscriber)
    if (this.#closed || this.#stream > 0) return
    this.#last = -1
    this.#again()
  }

  #unsubscribed(subscriber: AttachedSubscriber): void {
    this.#subscribers.delete(subscriber)
    if (this.#subscribers.size > 0 || this.#stream === 0) return
    this.#end()
    this.#host.wants()
  }

  #end(): void {
    this.#host.dropStream(this.#stream)
    this.#stream = 0
    this.#queue = []
    this.#queued = 0
  }

  /** Asks for the messages after the last one that came. */
  #again(): void {
    this.#host.dropStream(this.#stream)
    this.#stream = this.#host.newStream()
    this.#expected = 1
    this.#taken = 0
    this.#untold = 0
    this.#host.wants()
  }

  /** Counts what did not come before this packet. */
  #note({ body }: Packet): void {
    const first = body.byteLength < SEQUENCE_BYTES ? Number.NaN : body.readDoubleLE(0)
    if (!Number.isSafeInteger(first) || first < 0) return this.#host.wrong()
    if (this.#last >= 0 && first > this.#last + 1) this.#host.missed(first - this.#last - 1)
    this.#last = first - 1
    for (let at = SEQUENCE_BYTES; at + LENGTH_BYTES <= body.byteLength; this.#last++)
      at += LENGTH_BYTES + lengthAt(body, at)
  }

  async #write(): Promise<void> {
    this.#writing = true
    try {
      for (let packet = this.#queue.shift(); packet !== undefined; packet = this.#queue.shift()) {
        const { a: stream, b: number, body } = packet
        this.#queued -= HEAD_BYTES + body.byteLength
        for (let at = SEQUENCE_BYTES; at + LENGTH_BYTES <= body.byteLength;) {
          const from = at + LENGTH_BYTES
          const marked = isMarkedAt(body, at)
          at = from + lengthAt(body, at)
          if (at > body.byteLength) {
            this.#host.wrong()
            break
          }
          const message = headedOf(marked, body.subarray(from, at), this.#host)
          if (message === undefined) continue
          const { data, headers } = message
          if (!this.#send(message)) await this.#publisher.write(data, headers && { headers })
          this.#host.received(1)
        }
        if (stream === this.#stream) this.#wrote(number, body.byteLength)
      }
    } catch (error) {
      if (!this.#closed) this.#host.failed(error)
    } finally {
      this.#writing = false
    }
  }

  /** `false`: it must wait for room. */
  #send({ data, headers, size }: Headed): boolean {
    const publisher = this.#publisher
    const waits = this.#entry.topic?.overflow === 'block'
    if (size <= publisher.maxMessage) return publisher.send(data, headers && { headers }) || !waits
    if (waits) return false
    this.#host.oversized(this.#entry.name, size)
    return true
  }

  #wrote(number: number, bytes: number): void {
    this.#taken = number
    this.#untold += bytes
    // An empty packet asks for the answer.
    if (bytes > 0 && this.#untold < this.#window / 4) return
    this.#untold = 0
    this.#host.taken(this.#stream, number)
  }
}
