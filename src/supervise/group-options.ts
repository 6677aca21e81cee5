/** The options of a service group, and what a group says of its instances. */
import { anything, check, duration, flag, integer, LONGEST_MS, nested, oneOf, type Rule, type Rules } from '../check.js'
import { invalid } from '../invalid.js'
import { backoff, type BackoffOptions } from '../wait/backoff.js'
import { checkName } from '../bus/names.js'
import { managerName } from './names.js'
import { checkCommandLine, SPAWN, type SpawnOptions } from './spawn.js'

/**
 * What an instance does. `'starting'`: its process runs, and has not announced itself. `'ready'`: it has, and has no role.
 * `'primary'`, `'standby'`: it has, and is a member of the group. `'stalled'`: it is alive and does not answer, or fails its
 * health check. `'stopping'`: it was asked to end. `'backoff'`: it has ended, and is started again after a pause. `'stopped'`: it
 * has ended, and is not started again. `'failed'`: it has ended too often.
 */
export type InstanceState =
  'starting' | 'ready' | 'primary' | 'standby' | 'stalled' | 'stopping' | 'backoff' | 'stopped' | 'failed'

/** An instance of a group, as it was when it was asked for. */
export interface GroupInstance {
  /** The service. */
  readonly service: string
  /** Its place in its manager, from `'0'` on; of a member without a manager the id of its record. */
  readonly instance: string
  /** Its process, as its own pid namespace numbers it. `undefined`: there is none at the moment. */
  readonly pid: number | undefined
  /** The inode of that namespace (/proc/self/ns/pid); `undefined`: it is not known. In another one the number is that of somebody else. */
  readonly pidNamespace: number | undefined
  readonly state: InstanceState
  /** `undefined`: it is no member. */
  readonly role: 'primary' | 'standby' | undefined
  /** That of its term, or of the last one that it had; `undefined`: it is no member. */
  readonly epoch: number | undefined
  /** How often it was started again in its place. */
  readonly restarts: number
  /** Milliseconds since its process was started or adopted; of members of others since they were first seen. */
  readonly uptime: number
  /** The id of its manager; `undefined`: it has none. */
  readonly manager: string | undefined
}

/** How often instances are asked how they are. */
export interface HeartbeatOptions {
  /** Milliseconds between two rounds, 1,000 by default, and never more than `timeout`. */
  interval?: number | undefined
  /** Milliseconds without an answer, or without a beat of the work, after which it is stalled; 3,000 by default, or `interval` if that is more. */
  timeout?: number | undefined
}

/** Says whether an instance is well: `false`, or an error, means that it is not. */
export type HealthCheck = (instance: GroupInstance, signal: AbortSignal) => boolean | void | Promise<boolean | void>

/** Gets each line that an instance writes. While a promise that it returns is pending, no more is read of that instance. */
export type OutputListener = (line: string, stream: 'stdout' | 'stderr', instance: GroupInstance) => unknown

/** A service, the command of its instances, and how they are kept up. */
export interface ServiceGroupOptions extends SpawnOptions {
  /** The name of the service, which is also that of the group that `bus.join` joins. */
  service: string
  /** The command of each instance, or its path. */
  command: string
  /** Its arguments. */
  args?: readonly string[] | undefined
  /** How many instances this manager keeps, 2 by default. */
  replicas?: number | undefined
  /** Start an instance again that has ended (the default). */
  autoRespawn?: boolean | undefined
  /** Pauses before it is started again, if it has not lived for `minUptime`; by default from 100 ms up to 30 s. */
  backoff?: BackoffOptions | undefined
  /** Milliseconds; an instance that has lived for so long is started again at once. 1,000 by default. */
  minUptime?: number | undefined
  /** So many lives in a row that are shorter than `minUptime` are no failure yet; with one more the place has failed. 10 by default. */
  maxRestarts?: number | undefined
  /** `'announced'` (default): it is ready when that very process has announced the service, or is a member. `'started'`: at once. */
  readiness?: 'announced' | 'started' | undefined
  /** Milliseconds until an instance must be ready; 10,000 by default. One that is not is killed, and counts as one that ended early. */
  readyTimeout?: number | undefined
  /** Milliseconds that an instance has to end after SIGTERM; 3,000 by default. */
  grace?: number | undefined
  /** Ask instances how they are. By default they are not asked. A stalled one is killed, so that another can take over. */
  heartbeat?: HeartbeatOptions | boolean | undefined
  /**
   * A check in the rounds of the heartbeat: `'connect'` connects to the servers and work queues of that name and asks them for their
   * counters, or a function of your own. Two failures in a row count as stalled.
   */
  health?: HealthCheck | 'connect' | undefined
  /** Take over instances whose manager is dead, instead of starting new ones. */
  adopt?: boolean | undefined
  /** Gets each line of output, in place of `stdio`. The last lines are kept for `ringbell logs`. */
  output?: OutputListener | undefined
}

const TIME = duration(0, LONGEST_MS, 'milliseconds')
const BEATS: Rules = {
  interval: duration(10, LONGEST_MS, 'milliseconds'),
  timeout: duration(10, LONGEST_MS, 'milliseconds'),
}
const callback: Rule = (value) => (typeof value === 'function' ? undefined : 'must be a function')
const health: Rule = (value) => (value === 'connect' ? undefined : callback(value) && `must be 'connect' or a function`)
const heartbeat: Rule = (value) => (typeof value === 'boolean' ? undefined : nested('heartbeat', BEATS)(value))
const GROUP: Rules = {
  ...SPAWN,
  service: anything,
  command: anything,
  args: anything,
  replicas: integer(1, 1024),
  autoRespawn: flag,
  backoff,
  minUptime: TIME,
  maxRestarts: integer(0, 2 ** 20),
  readiness: oneOf('announced', 'started'),
  readyTimeout: duration(1, LONGEST_MS, 'milliseconds'),
  grace: TIME,
  heartbeat,
  health,
  adopt: flag,
  output: callback,
}
const STOP: Rules = { grace: TIME }

/** With the defaults. */
export interface GroupPolicy {
  readonly replicas: number
  readonly autoRespawn: boolean
  readonly backoff: BackoffOptions
  readonly minUptime: number
  readonly maxRestarts: number
  readonly readiness: 'announced' | 'started'
  readonly readyTimeout: number
  readonly grace: number
  readonly heartbeat: Required<{ [K in keyof HeartbeatOptions]: number }> | undefined
}

export function checkGroup(options: ServiceGroupOptions): void {
  if (options === undefined) throw invalid('options', options, 'must be given')
  check(options, GROUP)
  checkName(options.service)
  // The longest name that is made of it.
  checkName(managerName(options.service))
  checkCommandLine(options.command, options.args ?? [], options)
  const { interval, timeout } = beatsOf(options)
  if (interval > timeout) throw invalid('heartbeat.timeout', timeout, `must not be less than the interval, ${interval}`)
  if (options.output !== undefined && options.stdio !== undefined)
    throw invalid('stdio', options.stdio, 'must not be given together with output')
}

export function checkStop(options: object): void {
  check(options, STOP)
}

function beatsOf({ heartbeat }: ServiceGroupOptions): Required<{ [K in keyof HeartbeatOptions]: number }> {
  const { interval: asked, timeout: allowed } = typeof heartbeat === 'object' ? heartbeat : {}
  const interval = asked ?? Math.min(1000, allowed ?? 1000)
  return { interval, timeout: allowed ?? Math.max(3000, interval) }
}

export function policyOf(options: ServiceGroupOptions): GroupPolicy {
  const { heartbeat = options.health !== undefined } = options
  return {
    replicas: options.replicas ?? 2,
    autoRespawn: options.autoRespawn ?? true,
    backoff: { delay: 100, ...options.backoff },
    minUptime: options.minUptime ?? 1000,
    maxRestarts: options.maxRestarts ?? 10,
    readiness: options.readiness ?? 'announced',
    readyTimeout: options.readyTimeout ?? 10_000,
    grace: options.grace ?? 3000,
    heartbeat: heartbeat === false ? undefined : beatsOf(options),
  }
}
