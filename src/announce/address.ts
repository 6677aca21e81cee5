/**
 * Addresses of endpoints, as records have them: `unix:/run/api.sock`, `unix:@name`, `http://127.0.0.1:8080`, `tcp://[::1]:5000`.
 * This module turns a path, a URL or a server into an address, and an address into what Node connects to. It opens nothing.
 */
import type { Server } from 'node:net'
import { resolve } from 'node:path'
import { RingbellError, translated } from '../errors.js'
import { binding } from '../native.js'

/** Where an endpoint can be reached, in the form that `net.connect` and `http.request` take among their options. */
export type Target = SocketTarget | PortTarget

/** A Unix socket. */
export interface SocketTarget {
  /** The path. An abstract name begins with a NUL, as Node wants it. */
  readonly socketPath: string
}

/** A TCP port. */
export interface PortTarget {
  /** The host: a name, or an IP address without brackets. */
  readonly host: string
  /** The port. */
  readonly port: number
}

const UNIX = 'unix:'
const DEFAULT_PORTS: Readonly<Record<string, number>> = { 'http:': 80, 'https:': 443, 'ws:': 80, 'wss:': 443 }
/** Servers that listen on every address are reached from this machine through this one. */
const EVERYWHERE = new Set(['::', '0.0.0.0'])
const HERE = '127.0.0.1'
/**
 * Servers of `listenUnix`, by their handle: they are bound under another name than the one that they are reached by. A server has another
 * handle, or none, once it has stopped to listen there.
 */
const bound = new WeakMap<object, string>()

/** Remembers where a server can be reached that listens and does not know it itself. */
export function rememberAddress(server: Server, address: string): void {
  const handle = handleOf(server)
  if (handle !== undefined) bound.set(handle, address)
}

/** Whether a value is a server of `node:net`, `node:http` or the like. */
export function isServer(value: unknown): value is Server {
  if (typeof value !== 'object' || value === null) return false
  const { address, listen, listening, once } = value as Partial<Server>
  return [address, listen, once].every((one) => typeof one === 'function') && typeof listening === 'boolean'
}

/** The address of a path or URL. What is neither stays as it is: a record may have any text. */
export function addressOf(text: string): string {
  if (/^\.{0,2}\//.test(text)) return UNIX + resolve(text)
  if (!text.startsWith(UNIX) || text.startsWith(`${UNIX}@`)) return text
  const path = text.slice(UNIX.length).replace(/^\/\/(?=\/)/, '')
  return path === '' ? text : UNIX + resolve(path)
}

/** The address of a server that listens. @throws {RingbellError} if it has none. */
export function addressOfServer(server: Server): string {
  const handle = handleOf(server)
  const known = handle === undefined ? undefined : bound.get(handle)
  if (known !== undefined) return known
  const address = server.address()
  if (typeof address === 'string') return unixAddress(address)
  if (address !== null) {
    const host = EVERYWHERE.has(address.address) ? HERE : address.address
    return `${schemeOf(server)}://${host.includes(':') ? `[${host}]` : host}:${address.port}`
  }
  // A socket that was inherited, for which Node knows no name.
  const fd = handle?.fd ?? -1
  const name = fd < 0 ? '' : translated(() => binding().socketAddress(fd))
  if (name !== '') return unixAddress(name)
  throw new RingbellError(
    'ERR_RINGBELL_INVALID_OPTION',
    'Where this server listens cannot be told; announce its path or URL instead of the server.',
  )
}

/** Node has no public word for it. */
function handleOf(server: Server): { fd?: number } | undefined {
  return (server as { _handle?: { fd?: number } | null })._handle ?? undefined
}

/** What Node shows as an abstract name begins with a NUL. */
function unixAddress(name: string): string {
  if (name.startsWith('\0')) return `${UNIX}@${name.slice(1)}`
  return name.startsWith('@') ? UNIX + name : UNIX + resolve(name)
}

/** What is spoken there, by the properties of Node's servers. Loading their modules to ask would cost every importer. */
function schemeOf(server: Server): string {
  const secure = 'setSecureContext' in server
  if ('headersTimeout' in server) return secure ? 'https' : 'http'
  return secure ? 'tls' : 'tcp'
}

/** Where an address leads; `undefined` if it is neither `unix:` nor a URL with a host and a port. */
export function targetOf(address: string): Target | undefined {
  if (address.startsWith(UNIX)) {
    const name = address.slice(UNIX.length)
    if (/^@./.test(name)) return Object.freeze({ socketPath: `\0${name.slice(1)}` })
    return /^\/./.test(name) ? Object.freeze({ socketPath: name }) : undefined
  }
  let url: URL
  try {
    url = new URL(address)
  } catch {
    return undefined
  }
  const port = url.port === '' ? DEFAULT_PORTS[url.protocol] : Number(url.port)
  if (url.hostname === '' || port === undefined) return undefined
  return Object.freeze({ host: url.hostname.replace(/^\[(.*)\]$/, '$1'), port })
}
