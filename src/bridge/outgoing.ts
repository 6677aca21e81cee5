/**
 * One publisher's messages on their way to one other bus. It reads as an ordinary subscriber of that one publisher, and packs what it
 * finds. At most a window of bytes is under way. When that is full it stops reading, and the policy of the topic decides what follows:
 * a `block` topic holds its publisher back, the others drop and count.
 *
 * It keeps what is under way until the other side has written it. A stream that broke off is begun again by the other side, under
 * another number, and gets those packets again.
 */
import { Buffer } from 'node:buffer'
import type { Batch, Subscriber } from '../index.js'
import { Condition } from '../wait/condition.js'
import { blockOf, type Counting } from './headed.js'
import { HEAD_BYTES, LENGTH_BYTES, packet, PACKET, renumber, SEQUENCE_BYTES, type Wish, writeLength } from './wire.js'

export interface OutgoingHost extends Counting {
  /** This bridge. */
  readonly id: Buffer
  /** The most bytes of a packet. */
  largest(): number
  send(packed: Buffer): void
  /** So many messages are on their way. */
  sent(messages: number): void
  /** A message is larger than NATS takes, and was left out. */
  oversized(topic: string, bytes: number): void
  /** Its publisher has ended, and the other side has written all of it. */
  finished(): void
  /** It cannot read any more. */
  failed(error: unknown): void
}

/** Says that a stream cannot go on under its number: no packet has this one. */
export function broken(id: Buffer, stream: number): Buffer {
  return packet(PACKET.data, id, 0, stream, 2 ** 32 - 1)
}

/** A packet under way. */
interface Kept {
  readonly packed: Buffer
  number: number
  /** The sequence of its last message. */
  readonly last: number
}

/** More than this gains nothing, and would delay small topics beside it. */
const FULL = 64 * 1024

export class Outgoing {
  readonly id: string
  stream: number
  readonly #host: OutgoingHost
  readonly #subscriber: Subscriber
  readonly #window: number
  #kept: Kept[] = []
  #underWay = 0
  #number = 0
  #last = -1
  /** Its publisher has ended. */
  #ended = false
  #packing = false
  #closed = false
  readonly #room = new Condition(() => this.#underWay < this.#window || this.#closed)

  constructor(wish: Wish, subscriber: Subscriber, window: number, host: OutgoingHost) {
    this.id = wish.id
    this.stream = wish.stream
    this.#subscriber = subscriber
    this.#window = window
    this.#host = host
    subscriber.on('evicted', () =>
      host.failed(new Error('the bridge was evicted, because another machine was too slow')),
    )
    subscriber.on('ended', () => {
      this.#ended = true
      this.#finish()
    })
    void this.#run()
  }

  /** Whether the other side may still get something of it. */
  get busy(): boolean {
    return !this.#closed && !this.#isFinished
  }

  /** The other side has written the packets up to this one. */
  taken(number: number): void {
    let count = 0
    while (count < this.#kept.length && (this.#kept[count] as Kept).number <= number) count++
    this.#drop(count)
  }

  /** The other side begins again after this message, under another number. */
  renew({ stream, after }: Wish): void {
    this.stream = stream
    let count = 0
    while (count < this.#kept.length && (this.#kept[count] as Kept).last <= after) count++
    this.#drop(count)
    this.#number = 0
    for (const one of this.#kept) {
      one.number = ++this.#number
      renumber(one.packed, stream, one.number)
      this.#host.send(one.packed)
    }
  }

  /** If something is under way, says how much, so that the other side notices what was lost. */
  remind(): void {
    if (this.#kept.length > 0) this.#send(packet(PACKET.data, this.#host.id, 0))
  }

  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.#kept = []
    this.#room.check()
    void this.#subscriber.close()
  }

  async #run(): Promise<void> {
    try {
      for await (const batch of this.#subscriber.batches({ lifetime: 'borrowed' })) {
        this.#packing = true
        for (let from = 0; from < batch.length;) {
          if (this.#underWay >= this.#window) {
            // The other side tells by its own window what it has written. That may be much larger than this one.
            this.remind()
            await this.#room.wait()
          }
          if (this.#closed) return
          from = this.#pack(batch, from)
        }
        this.#packing = false
        if (this.#ended) this.#finish()
      }
    } catch (error) {
      if (!this.#closed) this.#host.failed(error)
    }
  }

  /** Sends messages from this one on that follow each other, as many as one packet takes. Returns the first that is left. */
  #pack(batch: Batch, from: number): number {
    const most = Math.min(this.#host.largest(), FULL) - HEAD_BYTES
    const first = batch.sequence(from)
    const blocks: Uint8Array[] = []
    let size = SEQUENCE_BYTES
    let to = from
    for (; to < batch.length; to++) {
      const block = blockOf(batch.headers(to), this.#host)
      const bytes = LENGTH_BYTES + block.byteLength + batch.byteLength(to)
      if (to > from && (size + bytes > most || batch.sequence(to) !== first + to - from)) break
      blocks.push(block)
      size += bytes
    }
    // One message alone may be larger.
    if (HEAD_BYTES + size > this.#host.largest()) {
      this.#host.oversized(batch.service, size)
      return to
    }
    const packed = packet(PACKET.data, this.#host.id, size)
    packed.writeDoubleLE(first, HEAD_BYTES)
    const { bytes } = batch
    const source = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    let at = HEAD_BYTES + SEQUENCE_BYTES
    for (let i = from; i < to; i++) {
      const offset = batch.offset(i)
      const length = batch.byteLength(i)
      const block = blocks[i - from] as Uint8Array
      writeLength(packed, block.byteLength + length, block.byteLength > 0, at)
      at += LENGTH_BYTES
      if (block.byteLength > 0) packed.set(block, at)
      at += block.byteLength
      source.copy(packed, at, offset, offset + length)
      at += length
    }
    this.#last = first + to - from - 1
    this.#host.sent(to - from)
    this.#send(packed)
    return to
  }

  #send(packed: Buffer): void {
    const number = ++this.#number
    renumber(packed, this.stream, number)
    this.#kept.push({ packed, number, last: this.#last })
    this.#underWay += packed.byteLength
    this.#host.send(packed)
  }

  #drop(count: number): void {
    if (count === 0) return
    for (const { packed } of this.#kept.splice(0, count)) this.#underWay -= packed.byteLength
    this.#room.check()
    if (this.#isFinished) this.#host.finished()
  }

  get #isFinished(): boolean {
    return this.#ended && !this.#packing && this.#kept.length === 0
  }

  #finish(): void {
    if (this.#isFinished) this.#host.finished()
    else if (!this.#packing) this.remind()
  }
}
