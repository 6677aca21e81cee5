/**
 * One connection to NATS: packets go to the inbox of one bridge, or to all. Only this file knows the package `@nats-io/transport-node`,
 * which is an optional peer, and is loaded when a bridge is opened.
 */
import { readFile } from 'node:fs/promises'
import type * as transport from '@nats-io/transport-node'
import type { ConnectionOptions, Msg, NatsConnection } from '@nats-io/transport-node'
import { asRingbellError, isRingbellError, reason, RingbellError } from '../errors.js'
import { missingPackage } from '../missing-package.js'
import type { BridgeOptions } from './options.js'
import { type Packet, unpack } from './wire.js'

export interface NatsHost {
  received(packet: Packet): void
  /** No bridge has this inbox, so the call of this number has not arrived. */
  unheard(call: number): void
  /** What is no packet has come. */
  wrong(): void
  /** The connection is lost, and is tried again. */
  down(): void
  /** It is there again. What was sent meanwhile may be lost. */
  up(): void
  /** NATS has refused something, such as a subject that the credentials do not allow, or a packet could not be handled. */
  refused(error: RingbellError): void
}

type Package = Pick<typeof transport, 'connect' | 'credsAuthenticator'>

/** Milliseconds that a server has to answer when it is connected to. */
const PATIENCE = 5000
const RECONNECT = 250
const NO_RESPONDERS = 503

/** @throws {RingbellError} `ERR_RINGBELL_MISSING_PACKAGE`. */
export async function loadNats(): Promise<Package> {
  try {
    return await import('@nats-io/transport-node')
  } catch (cause) {
    throw missingPackage('ringbell/nats', '@nats-io/transport-node', cause)
  }
}

export class Nats {
  readonly id: Buffer
  readonly #connection: NatsConnection
  readonly #host: NatsHost
  readonly #all: string
  readonly #inbox: string
  #connected = true

  /** @throws {RingbellError} `ERR_RINGBELL_NATS`. */
  static async connect(id: Buffer, network: string, options: BridgeOptions, host: NatsHost): Promise<Nats> {
    const nats = await loadNats()
    try {
      const connection = await nats.connect(await connectionOptions(nats, options, id))
      return new Nats(connection, id, network, host)
    } catch (cause) {
      throw new RingbellError('ERR_RINGBELL_NATS', `The NATS server cannot be used: ${reason(cause)}`, { cause })
    }
  }

  private constructor(connection: NatsConnection, id: Buffer, network: string, host: NatsHost) {
    this.id = id
    this.#connection = connection
    this.#host = host
    this.#all = `${network}.bridges`
    this.#inbox = `${network}.bridge.`
    const own = this.#inbox + id.toString('hex')
    const take = (message: Msg): void => {
      if (message.subject.length > own.length && message.headers?.code === NO_RESPONDERS)
        return host.unheard(Number(message.subject.slice(own.length + 1)))
      const packet = unpack(message.data)
      if (packet === undefined) host.wrong()
      else host.received(packet)
    }
    const hear = (error: Error | null, message: Msg): void => {
      if (error !== null) return host.refused(refusal(error))
      try {
        take(message)
      } catch (thrown) {
        // NATS would end the subscription, and with it the link to every other machine.
        host.wrong()
        host.refused(isRingbellError(thrown) ? thrown : asRingbellError(thrown, 'bridge'))
      }
    }
    connection.subscribe(this.#all, { callback: hear })
    connection.subscribe(own, { callback: hear })
    connection.subscribe(`${own}.*`, { callback: hear })
    void this.#follow(host)
  }

  /** The most bytes of one packet. */
  get largest(): number {
    return this.#connection.info?.max_payload ?? 2 ** 20
  }

  get connected(): boolean {
    return this.#connected
  }

  /** The address of the server. */
  get server(): string {
    return this.#connection.getServer()
  }

  /** Resolves with the reason when it is not tried again. */
  async closed(): Promise<RingbellError> {
    const error = await this.#connection.closed()
    return refusal(error ?? new Error('the connection is closed'))
  }

  send(to: string, packed: Buffer): void {
    this.#publish(this.#inbox + to, packed)
  }

  /** As `send`, and `unheard` tells if nobody listens there. */
  ask(to: string, packed: Buffer, call: number): void {
    this.#publish(this.#inbox + to, packed, `${this.#inbox}${this.id.toString('hex')}.${call}`)
  }

  sendToAll(packed: Buffer): void {
    this.#publish(this.#all, packed)
  }

  /** Sends what is on its way, as far as that is possible soon. */
  async close(): Promise<void> {
    if (this.#connected) await Promise.race([this.#connection.flush().catch(() => {}), pause(PATIENCE)])
    await this.#connection.close()
  }

  #publish(subject: string, packed: Buffer, reply?: string): void {
    if (this.#connection.isClosed()) return
    // Callers keep to `largest`. It may have become smaller since, with the connection to another server of the cluster.
    if (packed.byteLength > this.largest) return this.#host.wrong()
    this.#connection.publish(subject, packed, reply === undefined ? {} : { reply })
  }

  async #follow(host: NatsHost): Promise<void> {
    for await (const status of this.#connection.status()) {
      if (status.type === 'disconnect') {
        if (this.#connected) {
          this.#connected = false
          host.down()
        }
      } else if (status.type === 'reconnect') {
        this.#connected = true
        host.up()
      } else if (status.type === 'error') host.refused(refusal(status.error))
    }
  }
}

function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds).unref())
}

function refusal(cause: Error): RingbellError {
  return new RingbellError('ERR_RINGBELL_NATS', `NATS: ${reason(cause)}`, { cause })
}

async function connectionOptions(nats: Package, options: BridgeOptions, id: Buffer): Promise<ConnectionOptions> {
  const { servers, credsFile, user, password, token, tls, lease = 5000 } = options
  const given = {
    ...(user === undefined ? {} : { user }),
    ...(password === undefined ? {} : { pass: password }),
    ...(token === undefined ? {} : { token }),
    ...(credsFile === undefined ? {} : { authenticator: nats.credsAuthenticator(await readFile(credsFile)) }),
    ...(tls === undefined ? {} : { tls: defined(tls) }),
  }
  return {
    ...given,
    servers: typeof servers === 'string' ? [servers] : [...servers],
    name: `ringbell ${id.toString('hex')}`,
    noEcho: true,
    timeout: PATIENCE,
    maxReconnectAttempts: -1,
    reconnectTimeWait: RECONNECT,
    // A server that has stopped answering is left when the lease of this bridge is over.
    pingInterval: Math.max(100, lease / 2),
    maxPingOut: 2,
  }
}

function defined<O extends object>(options: O): { [K in keyof O]: Exclude<O[K], undefined> } {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as never
}
