/**
 * The events of one endpoint. They are emitted in order, from a microtask of their own, and never while messages are drained or
 * delivered: a listener may read, send, close and throw. Each event is first published on the endpoint's diagnostics channel of the
 * same name. A listener that throws causes an uncaught exception, and no event is lost by it.
 */
import type { Channel } from 'node:diagnostics_channel'
import type { EventEmitter } from 'node:events'
import { Fifo } from './fifo.js'

interface Event {
  readonly name: string
  readonly details: readonly unknown[]
}

/** `E`: the events, each with the list of its arguments. */
export class EventQueue<E extends Record<keyof E, readonly unknown[]>> {
  readonly #emitter: EventEmitter
  readonly #key: string
  readonly #channels: Readonly<Record<string, Channel>>
  readonly #events = new Fifo<Event>()
  #scheduled = false

  /** `key`: what the messages of the diagnostics channels call the emitter. */
  constructor(emitter: object, key: string, channels: Readonly<Record<string, Channel>>) {
    // The emitter's own types cannot follow a generic event name.
    this.#emitter = emitter as EventEmitter
    this.#key = key
    this.#channels = channels
  }

  /** Events are still to be emitted. */
  get pending(): boolean {
    return this.#events.size > 0
  }

  add<N extends keyof E & string>(name: N, ...details: E[N]): void {
    this.#events.push({ name, details })
    if (this.#scheduled) return
    this.#scheduled = true
    queueMicrotask(() => this.#emitAll())
  }

  /** What was not emitted yet will not be. */
  clear(): void {
    this.#events.clear()
  }

  /** What listeners add comes after what was there before. */
  #emitAll(): void {
    for (let event = this.#events.shift(); event !== undefined; event = this.#events.shift()) this.#emit(event)
    this.#scheduled = false
  }

  #emit({ name, details }: Event): void {
    const channel = this.#channels[name]
    if (channel?.hasSubscribers === true) channel.publish({ [this.#key]: this.#emitter, details })
    try {
      this.#emitter.emit(name, ...details)
    } catch (error) {
      process.nextTick(() => {
        throw error
      })
    }
  }
}
