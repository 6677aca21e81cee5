/**
 * The bus as a registry, for those who know one from elsewhere: a name with a control and a reply address, its process and
 * metadata. It is a face of `bus.announce` and `bus.services`, and keeps nothing of its own. A registry of a domain is a
 * registry of the bus that was opened with that `domain`.
 */
import type { Announced, Bus, GcReport, Service } from '../index.js'
import { check, plainObject, type Rules, text } from '../check.js'

/** What is registered under a name. */
export interface RegisterOptions {
  /** Where it takes commands, such as `unix:/run/price.sock`. */
  control?: string | undefined
  /** Where it answers. */
  reply?: string | undefined
  /** Anything that others should know, as JSON carries it. */
  metadata?: Record<string, unknown> | undefined
}

const ADDRESS = text(4096)
const REGISTER: Rules = { control: ADDRESS, reply: ADDRESS, metadata: plainObject }

/** Names on a bus, and who has them. */
export class Registry {
  readonly #bus: Bus

  constructor(bus: Bus) {
    this.#bus = bus
  }

  /**
   * Registers this process under a name, until it closes what it gets or ends. Several processes may have one name: `bus.claim`
   * is for a name that only one may have. When it resolves, this registry finds it; others do a moment later. After `close()` it may be
   * found for a moment, also here. Rejects as `bus.announce` does.
   */
  async register(name: string, options: RegisterOptions = {}): Promise<Announced> {
    check(options, REGISTER)
    const { control, reply, metadata } = options
    const endpoints = { ...(control === undefined ? {} : { control }), ...(reply === undefined ? {} : { reply }) }
    const announced = await this.#bus.announce(name, { endpoints, metadata })
    await this.#bus.services.knows(announced.service)
    return announced
  }

  /** The one that has been known longest, or `undefined`. @throws {RingbellError} as `bus.services.find`. */
  find(name: string): Service | undefined {
    return this.#bus.services.find(name)
  }

  /** All with this name, or with one below it: `audio` has `audio` and `audio.mic`. @throws {RingbellError} as `bus.services.findAll`. */
  findAll(prefix: string): Service[] {
    return this.#bus.services.findAll(prefix)
  }

  /** All. @throws {RingbellError} as `bus.services.list`. */
  list(): Service[] {
    return this.#bus.services.list()
  }

  /** Removes what dead processes left. Rejects as `bus.gc` does. */
  gc(): Promise<GcReport> {
    return this.#bus.gc()
  }
}
