/** The options of a bridge, and what its lists of names allow. */
import type { Access } from '../index.js'
import { anything, check, duration, flag, integer, LONGEST_MS, nested, type Rule, type Rules, text } from '../check.js'
import { invalid } from '../invalid.js'

/** How TLS is used. The files are PEM. */
export interface BridgeTls {
  /** The file with the certificates of those who may have signed the server's; by default those that Node trusts. */
  caFile?: string | undefined
  /** The file with this client's certificate, and that with its key. */
  certFile?: string | undefined
  keyFile?: string | undefined
  /** TLS from the first byte, for a server that is set so. By default the server says first that it wants TLS. */
  handshakeFirst?: boolean | undefined
}

/** Where a bridge leads, and what crosses it. */
export interface BridgeOptions {
  /** The NATS server, or several of one cluster: `nats://host:4222`. */
  servers: string | readonly string[]
  /**
   * Names and patterns (`sensors.*`) of the topics that leave this bus, and of those of other buses that appear on it. By default none.
   */
  topics?: readonly string[] | undefined
  /** The same for services that are called. */
  services?: readonly string[] | undefined
  /** The beginning of all NATS subjects, `'ringbell'` by default. Bridges with different ones do not see each other. */
  network?: string | undefined
  /** A file with credentials of NATS (`.creds`). */
  credsFile?: string | undefined
  user?: string | undefined
  password?: string | undefined
  token?: string | undefined
  tls?: BridgeTls | undefined
  /** Milliseconds after which a bridge that is not heard of counts as gone, 5,000 by default. It is heard of three times as often. */
  lease?: number | undefined
  /** Bytes of one topic that may be on their way to one machine, 1 MiB by default. It should be the same on all machines. */
  window?: number | undefined
  /** Which other users of this machine may use what comes from others; by default only root. */
  access?: Access | undefined
}

const NAMES: Rule = (value) =>
  Array.isArray(value) && value.every((name) => typeof name === 'string' && /^[A-Za-z0-9._*-]{1,64}$/.test(name))
    ? undefined
    : "must be a list of names and patterns such as 'sensors.*'"
const SERVERS: Rule = (value) =>
  [value].flat().length > 0 && [value].flat().every((server) => typeof server === 'string' && server.length > 0)
    ? undefined
    : "must be an address such as 'nats://host:4222', or a list of them"
const NETWORK: Rule = (value) =>
  typeof value === 'string' && /^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$/.test(value) && value.length <= 128
    ? undefined
    : 'must be the beginning of a NATS subject: letters, digits, - and _, in parts with dots between them'
export const LARGEST_WINDOW = 2 ** 26
const FILE = text(4096)
const SECRET = text(4096)

const BRIDGE: Rules = {
  servers: SERVERS,
  topics: NAMES,
  services: NAMES,
  network: NETWORK,
  credsFile: FILE,
  user: SECRET,
  password: SECRET,
  token: SECRET,
  tls: nested('tls', { caFile: FILE, certFile: FILE, keyFile: FILE, handshakeFirst: flag }),
  lease: duration(100, LONGEST_MS, 'milliseconds'),
  window: integer(65_536, LARGEST_WINDOW),
  access: anything,
}

/** With the defaults. */
export interface BridgePolicy {
  readonly network: string
  readonly lease: number
  readonly window: number
  readonly access: Access | undefined
  /** Whether the lists name this instance. */
  allows(kind: string, name: string): boolean
}

/** @throws {RingbellError} `ERR_RINGBELL_INVALID_OPTION`. */
export function policyOf(options: BridgeOptions): BridgePolicy {
  if (options === undefined) throw invalid('options', options, 'must be given')
  check(options, BRIDGE)
  if (options.servers === undefined) throw invalid('servers', undefined, SERVERS(undefined) ?? '')
  const topic = matcher(options.topics)
  const server = matcher(options.services)
  return {
    network: options.network ?? 'ringbell',
    lease: options.lease ?? 5000,
    window: options.window ?? 2 ** 20,
    access: options.access,
    allows: (kind, name) => (kind === 'topic' ? topic.test(name) : kind === 'server' && server.test(name)),
  }
}

/** A `*` stands for any characters, as for subscribers. */
function matcher(patterns: readonly string[] = []): RegExp {
  const each = patterns.map((pattern) => pattern.replaceAll('.', '\\.').replaceAll('*', '.*'))
  // An empty list matches nothing.
  return each.length === 0 ? /(?!)/ : new RegExp(`^(?:${each.join('|')})$`)
}
