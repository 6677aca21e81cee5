/**
 * Calls from this bus to servers of other buses. A remote server is a server here, whose handler sends the request to the bridge of the
 * other bus and waits for the answer. If that bridge is lost, the caller is told whether a handler may have seen its call.
 */
import type { Buffer } from 'node:buffer'
import type { CallContext } from '../index.js'
import { encodeRefusal } from '../channel/remote-error.js'
import { PassedOn, undelivered } from '../channel/passed-on.js'
import { NOT_REACHED, TERM_OVER } from '../channel/wire.js'
import { EMPTY } from '../codec/bytes.js'
import { RingbellError } from '../errors.js'
import type { MessageHeaders } from '../headers.js'
import { Condition } from '../wait/condition.js'
import { Fifo } from '../wait/fifo.js'
import { blockOf, type Counting, flagOf, headedOf } from './headed.js'
import { HEAD_BYTES, HEADED, ID_BYTES, NOTHING, type Packet, packet, PACKET, STREAMED } from './wire.js'

export interface CallsHost extends Counting {
  /** This bridge. */
  readonly id: Buffer
  largest(): number
  connected(): boolean
  send(to: string, packed: Buffer): void
  ask(to: string, packed: Buffer, call: number): void
  made(): void
  oversized(what: string, bytes: number): void
}

/** A call without an answer. */
interface Pending {
  /** The bus that answers it. */
  readonly to: string
  reply(value: Answer, headers: MessageHeaders | undefined): void
  chunk(value: Uint8Array): void
  end(): void
  fail(error: unknown): void
}

type Context = Pick<CallContext<unknown>, 'headers' | 'replyHeaders' | 'signal' | 'streamed' | 'timeout'>
/** `undefined`: the handler returned nothing. */
type Answer = Uint8Array | undefined

/** Chunks that a streamed answer may be ahead of its reader. */
const CHUNKS = 32
const HIGHEST = 2 ** 32 - 1
const GONE = 'the bridge of the other machine is gone.'
/** What an error of another bridge may say of a call. */
const FLAGS = TERM_OVER | NOT_REACHED

export class Calls {
  readonly #host: CallsHost
  readonly #pending = new Map<number, Pending>()
  #last = 0

  constructor(host: CallsHost) {
    this.#host = host
  }

  /** Calls the server with this id on another bus, for a caller of this one. */
  call(to: string, id: string, request: Uint8Array, context: Context): Promise<Answer> | AsyncIterable<Uint8Array> {
    const number = this.#send(to, id, request, context)
    return context.streamed ? this.#stream(number, to, context.signal) : this.#reply(number, to, context)
  }

  /** An answer. */
  answer(packet: Packet): void {
    const pending = this.#pending.get(packet.a)
    // It may have been given up.
    if (pending === undefined) return
    if (pending.to !== packet.from) return this.#host.wrong()
    switch (packet.type) {
      case PACKET.chunk:
        return pending.chunk(packet.body)
      case PACKET.reply:
        this.#pending.delete(packet.a)
        return this.#replied(pending, packet)
      case PACKET.end:
        this.#pending.delete(packet.a)
        return pending.end()
      default:
        this.#pending.delete(packet.a)
        return pending.fail(new PassedOn(packet.flags & FLAGS, packet.body))
    }
  }

  /** Nobody has heard this call. */
  unheard(number: number): void {
    const pending = this.#pending.get(number)
    this.#pending.delete(number)
    pending?.fail(undelivered(false, GONE))
  }

  /** What was under way to this bus is lost; without `to`, to any. */
  lost(why: string, to?: string): void {
    for (const [number, pending] of this.#pending) {
      if (to !== undefined && pending.to !== to) continue
      this.#pending.delete(number)
      pending.fail(undelivered(true, why))
    }
  }

  #replied(pending: Pending, { flags, body }: Packet): void {
    const reply = headedOf((flags & HEADED) !== 0, body, this.#host)
    if (reply === undefined) pending.fail(undelivered(true, 'the reply makes no sense.'))
    else pending.reply((flags & NOTHING) === 0 ? reply.data : undefined, reply.headers)
  }

  #send(to: string, id: string, request: Uint8Array, { headers, streamed, timeout = 0 }: Context): number {
    const host = this.#host
    if (!host.connected()) throw undelivered(false, 'the bridge is not connected to NATS.')
    const block = blockOf(headers, host)
    const before = ID_BYTES + block.byteLength
    const most = host.largest() - HEAD_BYTES - before
    if (request.byteLength > most) {
      host.oversized('request', request.byteLength)
      throw new PassedOn(0, encodeRefusal(tooLarge('request', request.byteLength, most)))
    }
    do this.#last = this.#last === HIGHEST ? 1 : this.#last + 1
    while (this.#pending.has(this.#last))
    const flags = (streamed ? STREAMED : 0) | flagOf(block)
    const packed = packet(PACKET.call, host.id, before + request.byteLength, this.#last, timeout, flags)
    packed.write(id, HEAD_BYTES, 'hex')
    packed.set(block, HEAD_BYTES + ID_BYTES)
    packed.set(request, HEAD_BYTES + before)
    host.made()
    host.ask(to, packed, this.#last)
    return this.#last
  }

  #reply(number: number, to: string, context: Context): Promise<Answer> {
    return new Promise((resolve, reject) => {
      const reply = (value: Answer, headers: MessageHeaders | undefined): void => {
        context.replyHeaders = headers
        resolve(value)
      }
      const giveUp = (why: string): void => {
        if (this.#cancel(number, to)) reject(undelivered(true, why))
      }
      const chunk = (): void => giveUp('the other bridge answered with a stream.')
      const end = (): void => reject(undelivered(true, 'the other bridge answered without a value.'))
      this.#pending.set(number, { to, reply, fail: reject, chunk, end })
      context.signal.addEventListener('abort', () => giveUp('the caller has given up.'))
    })
  }

  #stream(number: number, to: string, signal: AbortSignal): AsyncIterable<Uint8Array> {
    const chunks = new Chunks()
    const { id } = this.#host
    const credit = (more: number): void => this.#host.send(to, packet(PACKET.credit, id, 0, number, more))
    this.#pending.set(
      number,
      chunks.pending(to, () => {
        this.#host.wrong()
        this.#cancel(number, to)
      }),
    )
    signal.addEventListener('abort', () => chunks.end())
    credit(CHUNKS)
    const half = (): void => credit(CHUNKS / 2)
    return chunks.read(half, () => void this.#cancel(number, to))
  }

  /** `false`: it has its answer. */
  #cancel(number: number, to: string): boolean {
    if (!this.#pending.delete(number)) return false
    this.#host.send(to, packet(PACKET.cancel, this.#host.id, 0, number))
    return true
  }
}

/** The chunks of a streamed answer that were not read yet. */
class Chunks {
  readonly #chunks = new Fifo<Uint8Array>()
  #ended = false
  #failure: unknown
  readonly #more = new Condition(() => this.#chunks.size > 0 || this.#ended)

  /** `tooMany`: more have come than were asked for. */
  pending(to: string, tooMany: () => void): Pending {
    return {
      to,
      chunk: (value) => {
        if (this.#chunks.size < CHUNKS) return this.#push(value)
        tooMany()
        this.end(undelivered(true, 'the other bridge sent more of its stream than it was asked for.'))
      },
      reply: (value = EMPTY) => {
        this.#push(value)
        this.end()
      },
      end: () => this.end(),
      fail: (error) => this.end(error),
    }
  }

  end(failure?: unknown): void {
    this.#ended = true
    this.#failure ??= failure
    this.#more.check()
  }

  /** `half`: half of the chunks that may be under way were read. */
  async *read(half: () => void, left: () => void): AsyncGenerator<Uint8Array, void> {
    try {
      for (let taken = 1; ; taken++) {
        await this.#more.wait()
        const chunk = this.#chunks.shift()
        if (chunk === undefined) break
        yield chunk
        if (taken % (CHUNKS / 2) === 0) half()
      }
      if (this.#failure !== undefined) throw this.#failure
    } finally {
      left()
    }
  }

  #push(value: Uint8Array): void {
    this.#chunks.push(value)
    this.#more.check()
  }
}

export function tooLarge(what: string, bytes: number, most: number): RingbellError {
  return new RingbellError(
    'ERR_RINGBELL_MESSAGE_TOO_LARGE',
    `A ${what} of ${bytes} bytes is larger than the ${most} bytes that NATS takes; raise max_payload of the NATS server.`,
  )
}
