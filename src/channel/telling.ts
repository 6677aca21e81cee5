/**
 * Events of servers, clients, queues and workers: emitted in order, from a microtask of their own, never while something is
 * handed on, since listeners may send, close and throw. A listener that throws becomes an uncaught exception.
 */
import type { Channel } from 'node:diagnostics_channel'
import type { EventEmitter } from 'node:events'

interface Event {
  readonly name: string
  readonly details: readonly unknown[]
}

export class Telling {
  readonly #emitter: EventEmitter
  readonly #channels: Readonly<Record<string, Channel>>
  /** What messages of the diagnostics channels call the emitter. */
  readonly #key: string
  #events: Event[] = []

  constructor(emitter: object, key: string, channels: Readonly<Record<string, Channel>>) {
    // The emitter's own types cannot follow a generic event name.
    this.#emitter = emitter as EventEmitter
    this.#key = key
    this.#channels = channels
  }

  tell(name: string, ...details: unknown[]): void {
    if (this.#events.push({ name, details }) === 1) queueMicrotask(() => this.#emitAll())
  }

  /** Nothing more is told. */
  clear(): void {
    this.#events = []
  }

  #emitAll(): void {
    // One stays in the list while it is emitted, so that what listeners bring about comes after it.
    for (let event = this.#events[0]; event !== undefined; event = this.#events[0]) {
      this.#emit(event)
      this.#events.shift()
    }
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
