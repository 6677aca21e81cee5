/**
 * What `bus.announce` is given, made ready for a record: it waits until the servers among the endpoints listen, and asks for the
 * service's health once. Afterwards it tells the announcement of changes: of its health, and when a server closes.
 */
import { once } from 'node:events'
import type { Server } from 'node:net'
import { failureOf, inSteps } from '../closing.js'
import { RingbellError } from '../errors.js'
import { addressOfServer } from './address.js'
import { HealthRounds } from './health.js'
import { endpointsOf, type EndpointAddress, type Health, type HealthOptions } from './options.js'
import { warn } from './warning.js'

/** The options that are read here. */
export interface Offering {
  readonly endpoints?: Record<string, EndpointAddress> | undefined
  readonly tags?: readonly string[] | undefined
  readonly health?: boolean | HealthOptions | undefined
}

/** What hears of changes. */
export interface OfferedHost {
  /** Withdraws the record. */
  closeNow(): void
  /** Writes these fields of the metadata into the record. */
  write(fields: Readonly<Record<string, unknown>>): void
}

export class Offered {
  /** As the core takes them. */
  readonly endpoints: Record<string, unknown>
  /** Fields of the metadata that are not the user's. */
  readonly fields: Record<string, unknown> = {}
  readonly #servers: readonly [name: string, server: Server][]
  readonly #options: HealthOptions | undefined
  readonly #given = new AbortController()
  #rounds: HealthRounds | undefined
  #forget: () => void = nothing

  /** @throws {RingbellError} `ERR_RINGBELL_INVALID_OPTION`. */
  constructor({ endpoints, tags, health = false }: Offering) {
    const { addresses, servers } = endpointsOf(endpoints)
    this.endpoints = addresses
    this.#servers = servers
    this.#options = health === false ? undefined : health === true ? {} : health
    if (tags !== undefined) this.fields['tags'] = tags
  }

  /** Whether there is something to wait for. */
  get waits(): boolean {
    return this.#servers.length > 0 || this.#options !== undefined
  }

  /** Resolves when every server listens and the first check has an answer. Rejects if a server fails or closes, or `giveUp` is called. */
  async ready(): Promise<void> {
    const { signal } = this.#given
    try {
      await Promise.all(this.#servers.map(([, server]) => listening(server, signal)))
      for (const [name, server] of this.#servers) this.endpoints[name] = addressOfServer(server)
      if (this.#options === undefined) return
      this.#rounds = new HealthRounds(this.#options, Object.values(this.endpoints).filter(isText))
      this.#note(await this.#rounds.first())
    } catch (error) {
      throw signal.aborted ? signal.reason : error
    }
    signal.throwIfAborted()
    if (this.#servers.some(([, server]) => !server.listening)) throw closed()
  }

  /** Ends `ready` with this error. */
  giveUp(error: RingbellError): void {
    this.#given.abort(error)
    this.close()
  }

  /** The record is there. */
  begin(host: OfferedHost): void {
    const close = (): void => withdraw(host)
    for (const [, server] of this.#servers) server.once('close', close)
    this.#forget = () => {
      for (const [, server] of this.#servers) server.off('close', close)
    }
    this.#rounds?.begin((health) => {
      this.#note(health)
      const failure = failureOf(() => host.write(this.fields))
      if (failure !== undefined) warn('The health of an announced service cannot be told', failure)
    })
  }

  close(): void {
    inSteps(
      () => this.#rounds?.close(),
      () => this.#forget(),
    )
  }

  #note(health: Health): void {
    this.fields['health'] = health
  }
}

async function listening(server: Server, given: AbortSignal): Promise<void> {
  if (server.listening) return
  const over = new AbortController()
  const signal = AbortSignal.any([over.signal, given])
  try {
    // `once` rejects with what the server fails with.
    await Promise.race([
      once(server, 'listening', { signal }),
      once(server, 'close', { signal }).then(() => Promise.reject(closed())),
    ])
  } finally {
    over.abort()
  }
}

function closed(): RingbellError {
  return new RingbellError('ERR_RINGBELL_CLOSED', 'A server among the endpoints was closed before it was announced.')
}

/** Nobody waits for this: it is the event of a server. */
function withdraw(host: OfferedHost): void {
  const failure = failureOf(() => host.closeNow())
  if (failure !== undefined) warn('A service whose server has closed cannot be withdrawn', failure)
}

function isText(value: unknown): value is string {
  return typeof value === 'string'
}

function nothing(): void {}
