/**
 * A bus: the directory that processes share. Everything else is opened through it, and closed with it. `open` makes the
 * directory if need be and refuses one that others could tamper with; nothing runs until the first endpoint needs it.
 */
import { Announced } from './announced.js'
import { resolveCodec, type Codec } from './codec/index.js'
import { channels, debug } from './diagnostics.js'
import { closedError, fromNative, translated } from './errors.js'
import { checkName } from './names.js'
import { binding, type NativeBus } from './native.js'
import {
  ackPolicy,
  announceJson,
  busJson,
  codecOf,
  publisherJson,
  subscriberJson,
  type AnnounceOptions,
  type BusOptions,
  type PublisherOptions,
  type SubscriberOptions,
} from './options.js'
import { Publisher } from './publisher.js'
import { Services } from './services.js'
import type { Doctor, GcReport } from './reports.js'
import { Subscriber } from './subscriber.js'

interface Closable {
  closeNow(): void
}

export class Bus implements AsyncDisposable {
  /** Who is on the bus. */
  readonly services: Services
  /** The directory, with the domain. */
  readonly path: string
  readonly #native: NativeBus
  readonly #open = new Set<Closable>()
  #closed = false

  /**
   * Opens a bus.
   *
   * Rejects with `ERR_RINGBELL_INVALID_OPTION`, `ERR_RINGBELL_BUS_DIRECTORY` (refused, and why),
   * `ERR_RINGBELL_UNSUPPORTED_PLATFORM`, `ERR_RINGBELL_BINDING`.
   */
  static async open(options: BusOptions = {}): Promise<Bus> {
    const json = busJson(options)
    return new Bus(translated(() => binding().NativeBus.open(json)))
  }

  private constructor(native: NativeBus) {
    this.path = native.path
    this.#native = native
    this.services = new Services(native)
    debug('bus opened at %s', this.path)
    if (channels.bus.opened.hasSubscribers) channels.bus.opened.publish({ bus: this })
  }

  get closed(): boolean {
    return this.#closed
  }

  /**
   * Announces a topic and returns its one writer.
   *
   * Rejects with `ERR_RINGBELL_INVALID_NAME`, `ERR_RINGBELL_INVALID_OPTION`, `ERR_RINGBELL_RESOURCE` (names the limit), `ERR_RINGBELL_CLOSED`.
   */
  publisher<T = unknown>(
    service: string,
    options: PublisherOptions<T> & { codec: 'json' | 'structured' },
  ): Promise<Publisher<T>>
  publisher<T>(service: string, options: PublisherOptions<T> & { codec: Codec<T> }): Promise<Publisher<T>>
  publisher(service: string, options?: PublisherOptions & { codec?: 'bytes' | undefined }): Promise<Publisher>
  /** Options from a variable: the type of values is the variable's own word for it. */
  publisher<T>(service: string, options: PublisherOptions<T>): Promise<Publisher<T>>
  async publisher(service: string, options: PublisherOptions<unknown> = {}): Promise<Publisher<unknown>> {
    this.#assertOpen()
    checkName(service, 'service name')
    const codec = resolveCodec(codecOf(options))
    const json = publisherJson(options, codec.id)
    return this.#opened(
      translated(() => this.#native.publisher(service, json)),
      (native, closed) => new Publisher<unknown>({ native, codec, wait: options.wait, closed }),
    )
  }

  /**
   * Subscribes to a topic by name, or to several by a pattern such as `sensors.*`. Resolves at once, whether or not anybody
   * publishes: see `attached()`.
   *
   * Rejects with `ERR_RINGBELL_INVALID_NAME`, `ERR_RINGBELL_INVALID_OPTION`, `ERR_RINGBELL_RESOURCE`, `ERR_RINGBELL_CLOSED`.
   */
  subscriber<T = unknown>(
    pattern: string,
    options: SubscriberOptions<T> & { codec: 'json' | 'structured' },
  ): Promise<Subscriber<T>>
  subscriber<T>(pattern: string, options: SubscriberOptions<T> & { codec: Codec<T> }): Promise<Subscriber<T>>
  subscriber(pattern: string, options?: SubscriberOptions & { codec?: 'bytes' | undefined }): Promise<Subscriber>
  /** Options from a variable: the type of values is the variable's own word for it. */
  subscriber<T>(pattern: string, options: SubscriberOptions<T>): Promise<Subscriber<T>>
  async subscriber(pattern: string, options: SubscriberOptions<unknown> = {}): Promise<Subscriber<unknown>> {
    this.#assertOpen()
    const option = codecOf(options)
    const codec = resolveCodec(option)
    const json = subscriberJson(options, option === undefined ? undefined : codec.id)
    return this.#opened(
      translated(() => this.#native.subscriber(pattern, json)),
      (native, closed) =>
        new Subscriber<unknown>({ native, pattern, codec, wait: options.wait, acks: ackPolicy(options), closed }),
    )
  }

  /** Announces anything that is no topic: a name, addresses, metadata. Rejects as `publisher` does. */
  async announce(service: string, options: AnnounceOptions = {}): Promise<Announced> {
    this.#assertOpen()
    checkName(service, 'service name')
    const json = announceJson(service, options)
    return this.#opened(
      translated(() => this.#native.announce(json)),
      (native, closed) => new Announced(native, closed),
    )
  }

  /** Removes what dead processes left, never what belongs to a living one; anybody may, at any time. */
  async gc(): Promise<GcReport> {
    this.#assertOpen()
    return JSON.parse(translated(() => this.#native.gc())) as GcReport
  }

  /** What this machine allows, and what ringbell makes of it. */
  async doctor(): Promise<Doctor> {
    this.#assertOpen()
    return JSON.parse(translated(() => this.#native.doctor())) as Doctor
  }

  /** Closes everything that was opened through it, also when some of it fails to; idempotent. */
  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    const errors: unknown[] = []
    const attempt = (close: () => void): void => {
      try {
        close()
      } catch (error) {
        errors.push(fromNative(error))
      }
    }
    for (const one of this.#open) attempt(() => one.closeNow())
    attempt(() => this.services.close())
    attempt(() => this.#native.close())
    if (channels.bus.closed.hasSubscribers) channels.bus.closed.publish({ bus: this })
    if (errors.length > 0) throw errors.length === 1 ? errors[0] : new AggregateError(errors, 'Closing a bus failed')
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  /** What fails to become an endpoint must not stay open, or announced. */
  #opened<N extends { close(): void }, C extends Closable>(
    native: N,
    make: (native: N, closed: (one: Closable) => void) => C,
  ): C {
    try {
      const one = make(native, (closed) => this.#open.delete(closed))
      this.#open.add(one)
      return one
    } catch (error) {
      native.close()
      throw fromNative(error)
    }
  }

  #assertOpen(): void {
    if (this.#closed) throw closedError('bus')
  }
}
