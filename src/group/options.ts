/** The options of members of a service group. All of them are checked here. */
import type { Access } from '../bus/options.js'
import { Server } from 'node:net'
import {
  anything,
  check,
  duration,
  integer,
  LONGEST_MS,
  oneOf,
  plainObject,
  text,
  type Rule,
  type Rules,
} from '../check.js'
import { invalid } from '../invalid.js'
import { RingbellError } from '../errors.js'
import type { Term } from './term.js'

/** How a member takes part in its group. */
export interface JoinOptions {
  /**
   * More fields for the metadata of the member's record, beside `group`, `role`, `epoch` and `state`. Those of the environment
   * variable `RINGBELL_MEMBER`, a JSON object that a manager may set, come first.
   */
  metadata?: Record<string, unknown> | undefined
  /**
   * What answers a heartbeat. `'loop'` (default): the event loop, so a process that is stopped or hangs does not answer. `'manual'`: the
   * answer says how long ago the program called `beat()`.
   */
  heartbeat?: 'loop' | 'manual' | undefined
  /** Milliseconds that running calls have to end at a step-down, and `onStepDown`; 3,000 by default. */
  grace?: number | undefined
  /**
   * Is called when a term ends by a step-down, after the servers of the member have begun to refuse. The next primary cannot act before
   * its promise has resolved, or the grace is over.
   */
  onStepDown?: ((term: Term) => void | Promise<void>) | undefined
  /** Let other users call the member's control service; by default only our own and root may. */
  access?: Access | undefined
}

/** How long a step-down may take. */
export interface StepDownOptions {
  /** Milliseconds that running calls have to end; by default those that the member was joined with. */
  grace?: number | undefined
}

/** Where a server listens, and when it accepts. One of `port`, `path` and `fd` must be given. */
export interface ListenOptions {
  /** The TCP port; 0 is any that is free, the same for all members that ask for 0. */
  port?: number | undefined
  /** The address or name of a host; by default all addresses of this machine. */
  host?: string | undefined
  /**
   * The path of a Unix socket. One that dead members left there is replaced. It is bound as `listenUnix` binds: `.NAME.lock` stays beside it.
   */
  path?: string | undefined
  /** The mode of the file at `path`: who may connect. `0o600` by default: our own user. The member that opens the socket decides. */
  mode?: number | undefined
  /** The number of a descriptor that listens already, such as 3 of a service that systemd has started with a socket unit. */
  fd?: number | undefined
  /** When it accepts connections: while its member is `'primary'` (default), or `'always'`, as all members then do. */
  accept?: 'primary' | 'always' | undefined
}

export const DEFAULT_GRACE = 3000
/** The variable by which a manager adds to the metadata of the members that it starts. */
const ENVIRONMENT = 'RINGBELL_MEMBER'
/** The fields of a member's metadata that it keeps itself. */
export const OWN_FIELDS = ['group', 'role', 'epoch', 'state', 'heartbeat', 'sockets'] as const

const callback: Rule = (value) => (typeof value === 'function' ? undefined : 'must be a function')
const grace = duration(0, LONGEST_MS, 'milliseconds')
const metadata: Rule = (value) => {
  const broken = plainObject(value)
  if (broken !== undefined) return broken
  const own = OWN_FIELDS.find((name) => Object.hasOwn(value as object, name))
  return own === undefined ? undefined : `must not have the field ${own}, which the member keeps itself`
}
const JOIN: Rules = {
  metadata,
  heartbeat: oneOf('loop', 'manual'),
  grace,
  onStepDown: callback,
  // The core checks it with the record.
  access: anything,
}
const STEP_DOWN: Rules = { grace }
/** The longest path of a socket that the kernel takes. */
const LONGEST_PATH = 107
const LISTEN: Rules = {
  port: integer(0, 65_535),
  host: text(255),
  path: text(LONGEST_PATH),
  mode: integer(0, 0o777),
  fd: integer(0, 2 ** 31 - 1),
  accept: oneOf('primary', 'always'),
}

export function checkJoin(options: object): void {
  check(options, JOIN)
}

export function checkListen(server: unknown, options: ListenOptions): void {
  if (!(server instanceof Server)) throw invalid('server', server, 'must be a net.Server, such as that of node:http')
  check(options, LISTEN)
  const { port, host, path, mode, fd } = options
  if ([port, path, fd].filter((one) => one !== undefined).length !== 1)
    throw invalid('port', port, 'or path or fd must be given, and only one of them')
  if (port === undefined && host !== undefined) throw invalid('host', host, 'belongs to a port')
  if (path === undefined && mode !== undefined) throw invalid('mode', mode, 'belongs to a path')
  if (server.listening) throw invalid('server', server, 'must not listen yet')
}

export function checkStepDown(options: object): void {
  check(options, STEP_DOWN)
}

/** What the manager that has started this process adds to its metadata. */
export function fromEnvironment(): Record<string, unknown> {
  const text = process.env[ENVIRONMENT]
  if (text === undefined || text === '') return {}
  try {
    const fields = JSON.parse(text) as unknown
    if (typeof fields === 'object' && fields !== null && !Array.isArray(fields))
      return fields as Record<string, unknown>
  } catch {
    // Told below.
  }
  throw new RingbellError(
    'ERR_RINGBELL_INVALID_OPTION',
    `The environment variable ${ENVIRONMENT} has the wrong value ${text.slice(0, 100)}: it must be a JSON object.`,
  )
}
