/**
 * The connect test of health checks: whether the servers and work queues of an instance can be connected to, and their event loops
 * answer. No handler is called. One round of questions serves all instances.
 */
import type { Bus, ServiceCounters } from '../index.js'
import { debug } from '../diagnostics.js'
import type { Instance } from './instance.js'

export class ConnectTest {
  readonly #bus: Bus
  readonly #service: string
  #round: Promise<ServiceCounters[]> | undefined

  constructor(bus: Bus, service: string) {
    this.#bus = bus
    this.#service = service
  }

  /**
   * Rejects if one of them cannot be reached within these milliseconds. An instance that has none passes, and so does every instance
   * while this process itself has no descriptors left to ask it.
   */
  async reach(instance: Instance, timeout: number): Promise<void> {
    this.#round ??= this.#bus.counters(this.#service, { timeout }).finally(() => (this.#round = undefined))
    try {
      for (const { service, error } of await this.#round)
        if (error !== undefined && instance.hasAnnounced(service)) throw error
    } catch (error) {
      if ((error as { code?: unknown }).code !== 'ERR_RINGBELL_RESOURCE') throw error
      debug('connect test of %s: %s', this.#service, error)
    }
  }
}
