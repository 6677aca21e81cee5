/**
 * The listening sockets that a member holds, by their address. A member that needs one asks the others of its group for it, and
 * listens itself only if none of them has it. One member at a time does so, by a claim. So the socket lives as long as any member
 * holds it, whoever of them is killed, and no connection is refused meanwhile.
 *
 * Nothing is accepted here: see shared-server.ts. A socket is given to our own user and to root alone.
 */
import { lookup } from 'node:dns/promises'
import { closeSync } from 'node:fs'
import { constants } from 'node:os'
import { resolve } from 'node:path'
import type { Claim } from '../bus/claim.js'
import type { Service } from '../bus/service.js'
import type { Client } from '../channel/client.js'
import type { Connection } from '../channel/connection.js'
import { closedAfter, inSteps } from '../closing.js'
import { closedError, RingbellError, translated } from '../errors.js'
import { invalid } from '../invalid.js'
import { binding, type NativeListener } from '../native.js'

/** Where to listen. */
export interface SocketAddress {
  readonly port?: number | undefined
  readonly host?: string | undefined
  readonly path?: string | undefined
  /** Of the file at `path`. */
  readonly mode?: number | undefined
  /** A descriptor of this process that listens already. */
  readonly fd?: number | undefined
}

/** How a member finds and asks the others. */
export interface SocketsHost {
  /** Its holder alone opens sockets. */
  claim(): Promise<Claim>
  /** The other members. */
  others(): Service[]
  /** A client of their control services. */
  connect(): Promise<Client<object, object>>
  /** A member could not be asked. It goes on without that one. */
  failed(error: unknown): void
}

/** Milliseconds that a member has to hand a socket over. */
const PATIENCE = 2000
/** Our own user alone may connect. */
const MODE = 0o600

/** The address as members name it to each other. */
export function nameOf({ port, host = '*', path, fd }: SocketAddress): string {
  if (fd !== undefined) return `fd:${fd}`
  return path === undefined ? `tcp:${host}:${port}` : `unix:${path}`
}

export class Sockets {
  readonly #host: SocketsHost
  readonly #changed: () => void
  readonly #held = new Map<string, NativeListener>()
  #closed = false

  /** `changed`: it holds others now. */
  constructor(host: SocketsHost, changed: () => void) {
    this.#host = host
    this.#changed = changed
  }

  /** The names of those that it holds. */
  get names(): string[] {
    return [...this.#held.keys()]
  }

  /** That socket, from now on held here. */
  async take(address: SocketAddress): Promise<NativeListener> {
    const name = nameOf(address)
    const claim = await this.#host.claim()
    try {
      if (this.#held.has(name)) throw invalid('port', name, 'is used by another server of this member')
      const handed = address.fd === undefined ? await this.#handed(name) : undefined
      const listener = handed ?? (await opened(address))
      if (this.#closed) throw closedAfter(closedError('member'), listener)
      this.#held.set(name, listener)
      this.#changed()
      return listener
    } finally {
      await claim.release()
    }
  }

  /** Sends it to the member at the other end of a connection. */
  async give(name: unknown, connection: Connection<unknown>): Promise<void> {
    const { uid } = connection.peer
    if (uid !== 0 && uid !== process.getuid?.())
      throw new RingbellError('ERR_RINGBELL_NO_PERMISSION', 'Sockets are given to members of the same user alone.')
    const listener = typeof name === 'string' ? this.#held.get(name) : undefined
    if (listener === undefined)
      throw new RingbellError('ERR_RINGBELL_NOT_FOUND', `This member does not hold the socket ${String(name)}.`)
    const fd = translated(() => listener.duplicate())
    try {
      await connection.sendFds(Buffer.from(String(name)), [fd])
    } finally {
      closeSync(fd)
    }
  }

  drop(address: SocketAddress): void {
    const name = nameOf(address)
    const listener = this.#held.get(name)
    if (!this.#held.delete(name)) return
    listener?.close()
    this.#changed()
  }

  close(): void {
    this.#closed = true
    const listeners = [...this.#held.values()]
    this.#held.clear()
    inSteps(...listeners.map((listener) => () => listener.close()))
  }

  /** From a member that has it. One that does not answer is passed by. */
  async #handed(name: string): Promise<NativeListener | undefined> {
    const holders = this.#host.others().filter(({ metadata: { sockets } }) => holds(sockets, name))
    if (holders.length === 0) return undefined
    const client = await this.#host.connect()
    let told = false
    // The end of the client fails its calls, too.
    const tell = (error: unknown): void => {
      if (!told) this.#host.failed(error)
      told = true
    }
    client.on('failed', tell)
    try {
      for (const holder of holders) {
        try {
          return await received(client, holder, name)
        } catch (error) {
          tell(error)
        }
      }
      return undefined
    } finally {
      await client.close()
    }
  }
}

function holds(sockets: unknown, name: string): boolean {
  return Array.isArray(sockets) && sockets.includes(name)
}

async function received(client: Client<object, object>, { id }: Service, address: string): Promise<NativeListener> {
  const signal = AbortSignal.timeout(PATIENCE)
  await client.call({ method: 'socket', address }, { instance: id, signal })
  const connection = client.connections.find(({ service }) => service?.id === id)
  if (connection === undefined) throw new RingbellError('ERR_RINGBELL_PEER_GONE', 'The member has ended.')
  const { fds } = await connection.receiveFds({ signal })
  try {
    return translated(() => binding().NativeListener.copyOf(fds[0] ?? -1))
  } finally {
    for (const fd of fds) closeSync(fd)
  }
}

async function opened({ port = 0, host, path, mode = MODE, fd }: SocketAddress): Promise<NativeListener> {
  const { NativeListener } = binding()
  if (fd !== undefined) return translated(() => NativeListener.copyOf(fd))
  // A socket that dead members left is replaced.
  if (path !== undefined) return translated(() => NativeListener.unix(resolve(path), mode))
  if (host !== undefined) {
    const { address } = await lookup(host)
    return translated(() => NativeListener.tcp(address, port))
  }
  try {
    return translated(() => NativeListener.tcp('::', port))
  } catch (error) {
    // As Node does where there is no IPv6.
    if (!isErrno(error, 'EAFNOSUPPORT') && !isErrno(error, 'EADDRNOTAVAIL')) throw error
    return translated(() => NativeListener.tcp('0.0.0.0', port))
  }
}

function isErrno(error: unknown, name: keyof typeof constants.errno): boolean {
  return (error as { errno?: unknown }).errno === -constants.errno[name]
}
