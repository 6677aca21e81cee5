/**
 * Calls from other buses to servers on this one. For each server there is a client that is connected to that instance alone, so that the
 * caller's choice counts, and the two errors of a call mean the same as for a caller on this bus.
 */
import type { Buffer } from 'node:buffer'
import type { Bus, Client, Service } from '../index.js'
import { encodeRefusal } from '../channel/remote-error.js'
import { PassedOn, passedOn, undelivered } from '../channel/passed-on.js'
import { debug } from '../diagnostics.js'
import { EMPTY } from '../codec/bytes.js'
import { type MessageHeaders, NO_HEADERS } from '../headers.js'
import { Condition } from '../wait/condition.js'
import { tooLarge } from './calls.js'
import { blockOf, type Counting, flagOf, headedOf } from './headed.js'
import { HEAD_BYTES, HEADED, ID_BYTES, NOTHING, type Packet, PACKET, packet, STREAMED, withBody } from './wire.js'

export interface ServingHost extends Counting {
  /** This bridge. */
  readonly id: Buffer
  largest(): number
  send(to: string, packed: Buffer): void
  /** A server that is offered to others. */
  offered(id: string): Service | undefined
  /** Whether a bus is known. Nobody would notice that another one is gone. */
  knows(bus: string): boolean
  served(): void
  oversized(what: string, bytes: number): void
}

interface Task {
  readonly from: string
  readonly number: number
  readonly abort: AbortController
  /** Chunks that may be sent. */
  credit: number
  readonly more: Condition
}

/** A client that returns `undefined` where the handler returned nothing. */
type Caller = Client<Uint8Array, Uint8Array | undefined>

/** Chunks that a caller may ask for ahead. All of them wait in this process if NATS is slow. */
const MOST_CREDIT = 1024
/** Milliseconds that calls have to end when their server is gone. */
const GRACE = 5000

/** Bytes stay as they are, under the name of the codec that the other side has. */
export function asBytes(id = 'bytes'): {
  id: string
  encode: (data: Uint8Array) => Uint8Array
  decode: (data: Uint8Array) => Uint8Array
} {
  return { id, encode: (data) => data, decode: (data) => data }
}

export class Serving {
  readonly #bus: Bus
  readonly #host: ServingHost
  readonly #clients = new Map<string, Promise<Caller>>()
  readonly #tasks = new Map<string, Task>()

  constructor(bus: Bus, host: ServingHost) {
    this.#bus = bus
    this.#host = host
  }

  call(packet: Packet): void {
    const { from, a: number, body } = packet
    if (!this.#host.knows(from))
      return this.#fail(from, number, undelivered(false, 'the bridges have lost each other.'))
    const service = body.byteLength < ID_BYTES ? undefined : this.#host.offered(body.toString('hex', 0, ID_BYTES))
    if (service?.kind !== 'server')
      return this.#fail(from, number, undelivered(false, 'the server is not offered any more.'))
    const key = keyOf(from, number)
    if (this.#tasks.has(key)) return
    const task: Task = {
      from,
      number,
      abort: new AbortController(),
      credit: 0,
      more: new Condition(() => task.credit > 0 || task.abort.signal.aborted),
    }
    this.#tasks.set(key, task)
    this.#host.served()
    void this.#handle(service, packet, task).then(
      () => this.#tasks.delete(key),
      (error: unknown) => {
        this.#tasks.delete(key)
        const told = PassedOn.is(error) ? error : passedOn(error)
        if (told !== undefined && !task.abort.signal.aborted) this.#fail(from, number, told)
      },
    )
  }

  cancel({ from, a: number }: Packet): void {
    this.#end(this.#tasks.get(keyOf(from, number)))
  }

  credit({ from, a: number, b: chunks }: Packet): void {
    const task = this.#tasks.get(keyOf(from, number))
    if (task === undefined) return
    task.credit = Math.min(task.credit + chunks, MOST_CREDIT)
    task.more.check()
  }

  /** The callers of this bus are gone; without `from`, all. They are told, because their bridge may only have stood still. */
  lost(from?: string): void {
    for (const task of this.#tasks.values()) {
      if ((from !== undefined && task.from !== from) || task.abort.signal.aborted) continue
      this.#fail(task.from, task.number, undelivered(true, 'the bridges have lost each other.'))
      this.#end(task)
    }
  }

  /** Closes the clients of servers that are not offered any more. */
  tidy(): void {
    for (const [id, client] of this.#clients)
      if (this.#host.offered(id) === undefined) {
        this.#clients.delete(id)
        void closed(client)
      }
  }

  close(): void {
    this.lost()
    for (const client of this.#clients.values()) void closed(client, 0)
    this.#clients.clear()
  }

  async #handle(service: Service, { from, a: number, b: timeout, flags, body }: Packet, task: Task): Promise<void> {
    const { abort } = task
    const { signal } = abort
    const headed = headedOf((flags & HEADED) !== 0, body.subarray(ID_BYTES), this.#host)
    if (headed === undefined) throw undelivered(false, 'the request makes no sense.')
    const { data: request, headers } = headed
    const client = await this.#client(service)
    if ((flags & STREAMED) === 0) {
      const reply = await client.exchange(request, { signal, timeout, instance: service.id, headers })
      const nothing = reply.value === undefined ? NOTHING : 0
      return this.#answer(PACKET.reply, from, number, reply.value ?? EMPTY, reply.headers, nothing)
    }
    for await (const chunk of client.stream(request, { signal, instance: service.id, headers })) {
      if (task.credit <= 0) await task.more.wait()
      if (signal.aborted) return
      task.credit--
      this.#answer(PACKET.chunk, from, number, chunk ?? EMPTY, NO_HEADERS)
    }
    this.#host.send(from, packet(PACKET.end, this.#host.id, 0, number))
  }

  #client({ name, id, codec }: Service): Promise<Caller> {
    let client = this.#clients.get(id)
    if (client === undefined) {
      client = this.#bus.connect<Uint8Array, Uint8Array | undefined>(name, {
        codec: asBytes(codec) as never,
        instance: id,
        reconnect: { tries: 0 },
      })
      this.#clients.set(id, client)
      void client.then(
        (one) => one.on('failed', (error) => debug('a bridge calls %s: %s', name, error)),
        () => this.#clients.delete(id),
      )
    }
    return client
  }

  #answer(type: number, to: string, number: number, data: Uint8Array, headers: MessageHeaders, flags = 0): void {
    const block = blockOf(headers, this.#host)
    const most = this.#host.largest() - HEAD_BYTES - block.byteLength
    if (data.byteLength > most) {
      this.#host.oversized('reply', data.byteLength)
      throw new PassedOn(0, encodeRefusal(tooLarge('reply', data.byteLength, most)))
    }
    const bytes = block.byteLength + data.byteLength
    const packed = packet(type, this.#host.id, bytes, number, 0, flags | flagOf(block))
    packed.set(block, HEAD_BYTES)
    packed.set(data, HEAD_BYTES + block.byteLength)
    this.#host.send(to, packed)
  }

  #fail(to: string, number: number, { flags, data }: PassedOn): void {
    this.#host.send(to, withBody(PACKET.error, this.#host.id, data, number, 0, flags))
  }

  #end(task: Task | undefined): void {
    if (task === undefined) return
    task.abort.abort()
    task.more.check()
  }
}

function keyOf(from: string, number: number): string {
  return `${from} ${number}`
}

async function closed(client: Promise<Caller>, grace = GRACE): Promise<void> {
  try {
    await (await client).close({ grace })
  } catch (error) {
    debug('closing a client of a bridge: %s', error)
  }
}
