/** The messages that leave this bus: for each other bus, the streams that it wants. */
import type { Buffer } from 'node:buffer'
import type { Bus, Service } from '../index.js'
import type { Counting } from './headed.js'
import { broken, Outgoing } from './outgoing.js'
import type { Wish } from './wire.js'

export interface StreamsHost extends Counting {
  /** This bridge. */
  readonly id: Buffer
  largest(): number
  send(to: string, packed: Buffer): void
  /** A publisher that is offered to others. */
  offered(id: string): Service | undefined
  sent(messages: number): void
  oversized(what: string, bytes: number): void
  /** All of the messages of a publisher that has ended have arrived everywhere, or a stream of it is over. */
  quiet(): void
  failed(error: unknown): void
}

export class Streams {
  readonly #bus: Bus
  readonly #window: number
  readonly #host: StreamsHost
  /** By bus, and by the number that this bus has given. `undefined`: it is being opened. */
  readonly #streams = new Map<string, Map<number, Outgoing | undefined>>()

  constructor(bus: Bus, window: number, host: StreamsHost) {
    this.#bus = bus
    this.#window = window
    this.#host = host
  }

  /** These are all streams that another bus wants. */
  wanted(from: string, wishes: readonly Wish[]): void {
    const streams = this.#of(from)
    const numbers = new Set(wishes.map(({ stream }) => stream))
    const dropped = [...streams].filter(([number]) => !numbers.has(number))
    for (const wish of wishes) {
      if (streams.has(wish.stream)) {
        streams.get(wish.stream)?.taken(wish.taken)
        continue
      }
      const before = dropped.find(([, stream]) => stream?.id === wish.id)
      if (before?.[1] !== undefined) {
        dropped.splice(dropped.indexOf(before), 1)
        streams.delete(before[0])
        streams.set(wish.stream, before[1])
        before[1].renew(wish)
      } else if (wish.got > 0) this.#host.send(from, broken(this.#host.id, wish.stream))
      else void this.#open(from, wish)
    }
    for (const [number, stream] of dropped) this.#drop(from, number, stream)
  }

  taken(from: string, stream: number, number: number): void {
    this.#streams.get(from)?.get(stream)?.taken(number)
  }

  /** Whether messages of this publisher are under way. */
  isBusy(id: string): boolean {
    for (const streams of this.#streams.values())
      for (const stream of streams.values()) if (stream?.id === id && stream.busy) return true
    return false
  }

  remind(): void {
    for (const streams of this.#streams.values()) for (const stream of streams.values()) stream?.remind()
  }

  /** Another bus is gone. */
  lost(from: string): void {
    for (const [number, stream] of this.#of(from)) this.#drop(from, number, stream)
    this.#streams.delete(from)
  }

  close(): void {
    for (const from of this.#streams.keys()) this.lost(from)
  }

  #of(from: string): Map<number, Outgoing | undefined> {
    let streams = this.#streams.get(from)
    if (streams === undefined) this.#streams.set(from, (streams = new Map<number, Outgoing | undefined>()))
    return streams
  }

  #drop(from: string, number: number, stream: Outgoing | undefined): void {
    this.#streams.get(from)?.delete(number)
    stream?.close()
    this.#host.quiet()
  }

  async #open(from: string, wish: Wish): Promise<void> {
    const host = this.#host
    const service = host.offered(wish.id)
    if (service?.kind !== 'topic') return
    const streams = this.#of(from)
    streams.set(wish.stream, undefined)
    try {
      const subscriber = await this.#bus.subscriber(service.name, { instance: wish.id })
      const stream = new Outgoing(wish, subscriber, this.#window, {
        id: host.id,
        largest: () => host.largest(),
        send: (packed) => host.send(from, packed),
        sent: (messages) => host.sent(messages),
        oversized: (topic, bytes) => host.oversized(`message of ${topic}`, bytes),
        wrong: () => host.wrong(),
        finished: () => host.quiet(),
        failed: (error) => {
          host.failed(error)
          this.#drop(from, stream.stream, stream)
        },
      })
      // It may not be wanted any more, or another one in its place.
      if (streams.has(wish.stream) && this.#streams.get(from) === streams) streams.set(wish.stream, stream)
      else stream.close()
    } catch (error) {
      streams.delete(wish.stream)
      host.failed(error)
    }
  }
}
