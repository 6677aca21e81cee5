/**
 * Servers on Unix sockets that are bound safely: the core binds (crates/core/src/listen.rs), and Node's server takes the descriptor. This
 * module lets nobody in whom `access` does not name, and has the file removed when the server has closed.
 */
import { closeSync } from 'node:fs'
import type { Server, Socket } from 'node:net'
import { resolve } from 'node:path'
import { check, flag, integer, nested, type Rule, type Rules } from '../check.js'
import { closedAfter, failureOf } from '../closing.js'
import { refuseInClusterWorker } from '../cluster-worker.js'
import { debug } from '../diagnostics.js'
import { RingbellError, translated } from '../errors.js'
import { invalid } from '../invalid.js'
import { binding } from '../native.js'
import { isServer, rememberAddress } from './address.js'
import { warn } from './warning.js'

/** The process at the other end of a Unix socket, as the kernel knew it when it connected. */
export interface SocketPeer {
  /** Its process id; 0 if this pid namespace does not show it. */
  readonly pid: number
  /** Its user. */
  readonly uid: number
  /** All its groups, the effective one first. */
  readonly gids: readonly number[]
}

/** Who may connect, besides our own user and root. The kernel says who it is. */
export interface SocketAccess {
  /** Users. */
  uids?: readonly number[] | undefined
  /** Groups; their members may. */
  gids?: readonly number[] | undefined
}

/** How `listenUnix` listens. */
export interface ListenUnixOptions {
  /** The mode of the socket file: who may connect to it at all. `0o600` by default: our own user. */
  mode?: number | undefined
  /** `path` is a name of the abstract namespace, which is in no directory and has no mode. */
  abstract?: boolean | undefined
  /**
   * Closes the connection of any other user than these, our own and root. With `abstract` it is the only thing that keeps others out; without it
   * any process on this machine may connect.
   */
  access?: SocketAccess | undefined
}

/** Stands for every user that has no number in this user namespace. */
const OVERFLOW_ID = 65534
const MOST_ID = 2 ** 32 - 2
const BACKLOG = 4096
const MODE = 0o600

const ids: Rule = (value) =>
  Array.isArray(value) && value.every((id) => integer(0, MOST_ID)(id) === undefined && id !== OVERFLOW_ID)
    ? undefined
    : 'must be a list of numbers that name somebody'
const RULES: Rules = {
  mode: integer(0, 0o777),
  abstract: flag,
  access: nested('access', { uids: ids, gids: ids }),
}

/**
 * Lets a server listen on a Unix socket. The file appears with its exact mode, and only once it can be connected to. A stale socket of this
 * user is replaced. Of two processes that listen on one path, one does; the other one fails. The file is removed when the server has closed. Beside
 * it stays `.NAME.lock`, which must not be removed. The path may be longer than the kernel's 107 bytes.
 *
 * Rejects with `ERR_RINGBELL_SYSTEM` (`errno` is that of EADDRINUSE if somebody else listens there, of EEXIST if something else than a socket is
 * there), `ERR_RINGBELL_NO_PERMISSION` (what is there belongs to another user), `ERR_RINGBELL_INVALID_OPTION`, `ERR_RINGBELL_RESOURCE`.
 */
export async function listenUnix(server: Server, path: string, options: ListenUnixOptions = {}): Promise<void> {
  if (!isServer(server)) throw invalid('server', server, 'must be a server of node:net, node:http or the like')
  if (server.listening) throw invalid('server', server, 'must not listen already')
  if (typeof path !== 'string' || path === '') throw invalid('path', path, 'must be a path')
  check(options, RULES)
  const { mode = MODE, abstract = false, access } = options
  if (abstract && options.mode !== undefined) throw invalid('mode', mode, 'is not for abstract names; use access')
  await refuseInClusterWorker(server)
  const full = resolve(path)
  const listener = translated(() =>
    abstract ? binding().NativeUnixServer.openAbstract(path) : binding().NativeUnixServer.open(full, mode),
  )
  let unfilter = nothing
  const over = (): void => {
    server.off('close', over).off('listening', over)
    unfilter()
    const failure = failureOf(() => listener.close())
    if (failure !== undefined) warn('The socket of a server that has closed cannot be removed', failure)
  }
  try {
    await listenOn(
      server,
      translated(() => listener.take()),
    )
    rememberAddress(server, abstract ? `unix:@${path}` : `unix:${full}`)
    if (access !== undefined) unfilter = filtered(server, access)
    // A server that listens again before all its connections have ended has no `close` in between.
    server.once('close', over).once('listening', over)
  } catch (error) {
    throw closedAfter(error, listener)
  }
}

/**
 * From now on no listener of the server hears of a connection that is refused: to a listener that was called anyway, the socket would be
 * one that has no peer. The returned function undoes it.
 */
function filtered(server: Server, access: SocketAccess): () => void {
  const emit: Server['emit'] = Reflect.get(server, 'emit')
  let active = true
  const filter = (event: string, ...values: unknown[]): boolean => {
    const [socket] = values
    if (active && event === 'connection' && !admitted(socket as Socket, access)) return false
    return Reflect.apply(emit, server, [event, ...values]) as boolean
  }
  server.emit = filter
  return () => {
    active = false
    // Somebody else may have replaced it meanwhile.
    if (server.emit === filter) server.emit = emit
  }
}

function listenOn(server: Server, fd: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const listening = (): void => {
      server.off('error', failed)
      resolve()
    }
    const failed = (error: Error): void => {
      server.off('listening', listening)
      reject(error)
    }
    server.once('listening', listening).once('error', failed)
    try {
      server.listen({ fd }, BACKLOG)
    } catch (error) {
      server.off('listening', listening).off('error', failed)
      closeSync(fd)
      throw error
    }
  })
}

/** Whether this connection may stay. Otherwise it is closed here. Who cannot be told is refused, too. */
function admitted(socket: Socket, { uids = [], gids = [] }: SocketAccess): boolean {
  try {
    const { uid, gids: groups } = peerOf(socket)
    const own = uid === 0 || uid === process.geteuid?.()
    if (own || uids.includes(uid) || groups.some((group) => gids.includes(group))) return true
    debug('user %d may not connect', uid)
  } catch (error) {
    debug('a connection is refused: %s', error)
  }
  socket.destroy()
  return false
}

function nothing(): void {}

/**
 * Who is at the other end of a connection over a Unix socket, such as `request.socket` of an HTTP server.
 *
 * @throws {RingbellError} `ERR_RINGBELL_SYSTEM` for a TCP socket, `ERR_RINGBELL_CLOSED` for one that is closed.
 */
export function peerOf(socket: Socket): SocketPeer {
  const fd = (socket as { _handle?: { fd?: number } | null } | undefined)?._handle?.fd
  if (typeof fd !== 'number' || fd < 0)
    throw new RingbellError(
      'ERR_RINGBELL_CLOSED',
      'This socket is not open, so who is at its other end cannot be told.',
    )
  return JSON.parse(translated(() => binding().socketClient(fd))) as SocketPeer
}
