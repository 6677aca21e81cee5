/**
 * A server of Node (TCP, HTTP, a Unix socket) whose listening socket the members of a group share. It accepts while its member is
 * primary, or always. In between, connections wait in the queue of the socket, so none is refused while a member lives.
 *
 * Before another member can be primary it has stopped to accept, and what it had accepted has ended; what has not when the grace
 * is over is cut.
 */
import type { IncomingMessage, Server as HttpServer, ServerResponse } from 'node:http'
import type { Server, Socket } from 'node:net'
import type { MemberPart, Role } from '../bus/membership.js'
import { translated } from '../errors.js'
import type { NativeListener } from '../native.js'
import { membersOf, shown, type ShownOptions } from '../shown.js'
import { Condition } from '../wait/condition.js'

/** Listening again sets it again. Connections wait in the queue while nobody accepts. */
const BACKLOG = 4096

/** @internal What a member passes to the constructor. */
export interface SharedServerParts {
  readonly server: Server
  readonly socket: NativeListener
  readonly always: boolean
  readonly path: string | undefined
  /** Gives the socket up. */
  readonly closed: () => void
}

/** A server that takes turns with those of the other members; `member.listen()` makes it. */
export class SharedServer implements AsyncDisposable {
  /** Its TCP port; `undefined` on a Unix socket. */
  readonly port: number | undefined
  /** The path of its Unix socket. */
  readonly path: string | undefined
  /** @internal What its member tells it. */
  readonly part: MemberPart = {
    announce: ({ role }) => this.follow(role),
    settled: () => (this.#always ? Promise.resolve() : this.#idle.wait()),
    disown: () => {
      if (this.#always) return
      this.#stop()
      for (const socket of this.#connections) socket.destroy()
    },
    retire: async () => {
      this.#end()
      await this.#idle.wait()
    },
  }
  readonly #server: Server & Partial<Pick<HttpServer, 'closeIdleConnections'>>
  readonly #socket: NativeListener
  readonly #always: boolean
  readonly #closed: () => void
  readonly #connections = new Set<Socket>()
  readonly #responses = new Set<ServerResponse>()
  readonly #idle = new Condition(() => this.#connections.size === 0)
  #accepting = false
  #over = false

  /** @internal Use `member.listen()`. */
  constructor({ server, socket, always, path, closed }: SharedServerParts) {
    this.#server = server
    this.#socket = socket
    this.#always = always
    this.#closed = closed
    this.path = path
    const port = translated(() => socket.port)
    this.port = port === 0 ? undefined : port
    server.on('connection', this.#connected).on('request', this.#requested)
  }

  /** Whether it accepts connections. */
  get accepting(): boolean {
    return this.#accepting
  }

  /** Accepts no more, and gives the socket up. What it has accepted goes on. Idempotent. */
  async close(): Promise<void> {
    if (this.#over) return
    this.#end()
    this.#server.off('connection', this.#connected).off('request', this.#requested)
    this.#closed()
  }

  /** `await using`: as `close()`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  /** What `console.log` shows. */
  [Symbol.for('nodejs.util.inspect.custom')](depth: number | null, options: ShownOptions): string {
    return shown('SharedServer', membersOf(this, 'port', 'path', 'accepting'), depth, options)
  }

  /** @internal The member has this role now. */
  follow(role: Role): void {
    if (!this.#always && role !== 'primary') this.#stop()
    else if (!this.#over && !this.#accepting) this.#accept()
  }

  #accept(): void {
    const fd = translated(() => this.#socket.duplicate())
    this.#accepting = true
    // The descriptor is the server's from now on. What fails is an `error` event of it, as with any other `listen`.
    this.#server.listen({ fd }, BACKLOG)
  }

  #stop(): void {
    if (!this.#accepting) return
    this.#accepting = false
    this.#server.close()
    for (const response of this.#responses) lastOf(response)
  }

  #end(): void {
    this.#over = true
    this.#stop()
  }

  readonly #connected = (socket: Socket): void => {
    this.#connections.add(socket)
    socket.once('close', () => {
      this.#connections.delete(socket)
      this.#idle.check()
    })
  }

  /** A connection of HTTP does not end with its request, unless it is told to. */
  readonly #requested = ({ httpVersionMajor }: IncomingMessage, response: ServerResponse): void => {
    // HTTP 2 has another way to end a connection, which Node takes by itself.
    if (httpVersionMajor > 1) return
    if (!this.#accepting) lastOf(response)
    this.#responses.add(response)
    response.once('close', () => {
      this.#responses.delete(response)
      // Its client was told before that it may ask again.
      if (!this.#accepting) setImmediate(() => this.#server.closeIdleConnections?.())
    })
  }
}

function lastOf(response: ServerResponse): void {
  if (!response.headersSent) response.setHeader('Connection', 'close')
}
