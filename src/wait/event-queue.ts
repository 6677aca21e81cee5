/**
 * The events of one endpoint. They are emitted in order, from a microtask of their own, and never while messages are
 * drained or delivered. So a listener may read, send, close and throw. Each event is first published on the endpoint's
 * diagnostics channel of the same name. An exception of a listener becomes an uncaught exception, and the events after
 * it are still emitted.
 * If nobody hears of a failure, a process warning says so, once for each emitter.
 */
import type { Channel } from 'node:diagnostics_channel'
import type { EventEmitter } from 'node:events'
import { reason } from '../errors.js'
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
  #warned = false

  /** `key`: the name of the emitter in the messages of the diagnostics channels. */
  constructor(emitter: object, key: string, channels: Readonly<Record<string, Channel>>) {
    // The emitter's own types cannot follow a generic event name.
    this.#emitter = emitter as EventEmitter
    this.#key = key
    this.#channels = channels
  }

  /** Whether there are events that are not emitted yet. */
  get pending(): boolean {
    return this.#events.size > 0
  }

  add<N extends keyof E & string>(name: N, ...details: E[N]): void {
    this.#events.push({ name, details })
    if (this.#scheduled) return
    this.#scheduled = true
    queueMicrotask(() => this.#emitAll())
  }

  /** Drops the events that are not emitted yet. */
  clear(): void {
    this.#events.clear()
  }

  /** Events that a listener adds are emitted after those in the queue. */
  #emitAll(): void {
    for (let event = this.#events.shift(); event !== undefined; event = this.#events.shift()) this.#emit(event)
    this.#scheduled = false
  }

  #emit({ name, details }: Event): void {
    const channel = this.#channels[name]
    if (channel?.hasSubscribers === true) channel.publish({ [this.#key]: this.#emitter, details })
    else if (name === 'failed' && this.#emitter.listenerCount(name) === 0) this.#warn(details[0])
    try {
      this.#emitter.emit(name, ...details)
    } catch (error) {
      process.nextTick(() => {
        throw error
      })
    }
  }
  #warn(error: unknown): void {
    if (this.#warned) return
    this.#warned = true
    const told = `There is no listener for 'failed' of this ${this.#key}: ${reason(error)}`
    process.emitWarning(told, { type: 'RingbellWarning', code: 'RINGBELL_FAILED' })
  }
}
