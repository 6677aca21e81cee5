/**
 * The addresses of records (`endpoints`) as data: `unix:/run/api.sock`, `http://127.0.0.1:8080/metrics`, `127.0.0.1:8080`. Records are
 * written by other processes, so what goes into a file of somebody else passes through here first: an address is either understood
 * completely, or it is none.
 */
import { isIPv4, isIPv6 } from 'node:net'

/** A Unix socket. The path of an abstract one begins with `@`. */
export interface UnixAddress {
  readonly unix: string
}

/** A port. `host` is an IP address without brackets, or a name. */
export interface PortAddress {
  readonly host: string
  readonly port: number
  readonly secure: boolean
  /** The path of a URL, with its query; empty if there is none. */
  readonly path: string
}

export type Address = UnixAddress | PortAddress

const DEFAULT_PORTS: Readonly<Record<string, number>> = { 'http:': 80, 'https:': 443 }
// Nothing that ends a word or a line of a configuration file, and no quotes or variables.
const PLAIN_PATH = /^(\/|@)[^\p{Cc}\s;{}"'`\\$#]+$/u
const HOST_NAME = /^[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*$/
/** The most bytes of a path that `sockaddr_un` takes. */
const MOST_PATH = 107
/** A longer text is no address, and not looked at. */
const MOST_TEXT = 1024

/** What an address says, or `undefined`: it says nothing that is known here. */
export function parseAddress(text: string): Address | undefined {
  if (text.length > MOST_TEXT) return undefined
  const unix = /^(?:https?:)?unix:(?:\/\/)?(.*)$/su.exec(text)?.[1] ?? (text.startsWith('/') ? text : undefined)
  if (unix !== undefined) return PLAIN_PATH.test(unix) && Buffer.byteLength(unix) <= MOST_PATH ? { unix } : undefined
  const url = /^(https?|tcp):(?:\/\/)?(.*)$/su.exec(text)
  return url === null ? portOf(text, '') : portOf(url[2] ?? '', `${url[1]}:`)
}

/** `host:port`, as in a URL. */
export function authority({ host, port }: PortAddress): string {
  return `${isIPv6(host) ? `[${host}]` : host}:${port}`
}

/** Whether it needs nobody to look it up. */
export function isNumeric({ host }: PortAddress): boolean {
  return isIPv4(host) || isIPv6(host)
}

function portOf(text: string, scheme: string): PortAddress | undefined {
  const [, bracketed, plain, digits, path = ''] =
    /^(?:\[([0-9A-Fa-f:.]+)\]|([^\s/:?#@[\]]+))(?::(\d{1,5}))?(\/[^\s#]*)?$/u.exec(text) ?? []
  const host = reachable(bracketed ?? plain ?? '')
  const port = digits === undefined ? DEFAULT_PORTS[scheme] : Number(digits)
  const known =
    bracketed === undefined ? isIPv4(host) || (HOST_NAME.test(host) && !/^[\d.]+$/.test(host)) : isIPv6(host)
  if (!known || port === undefined || port < 1 || port > 65_535) return undefined
  return { host, port, secure: scheme === 'https:', path: path === '/' ? '' : path }
}

/** A server that listens everywhere is reached on this machine; `localhost` is looked up by nobody. */
function reachable(host: string): string {
  if (host === '0.0.0.0' || host === 'localhost') return '127.0.0.1'
  return isIPv6(host) && /^[0:]+$/.test(host) ? '::1' : host
}
