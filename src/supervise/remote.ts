/** Managers and instances of groups as another process sees them: `ringbell ps`, `restart`, `stop`, `logs` and `top` are made of this. */
import type { AsyncIteration, Bus, Client, Service } from '../index.js'
import { check, duration, flag, integer, LONGEST_MS, type Rules, signal, text } from '../check.js'
import { debug } from '../diagnostics.js'
import { fromNative, isRingbellError, RingbellError } from '../errors.js'
import { type SignalOptions, throwIfAborted } from '../wait/abort.js'
import type { GroupInstance } from './group-options.js'
import type { LogLine } from './log-book.js'
import type { ManagerRequest } from './manager-service.js'
import { managerName, memberName } from './names.js'
import { foreign } from './roster.js'

/** Which groups to look at. */
export interface GroupsOptions extends SignalOptions {
  /** That of one service; by default all. */
  service?: string | undefined
  /** Milliseconds that a manager has to answer, 2,000 by default. */
  timeout?: number | undefined
}

/** How to ask a manager. */
export interface AskOptions extends SignalOptions {
  /**
   * Milliseconds that the manager has to answer at all, 5,000 by default. What it was asked for may take longer; `signal` ends the
   * wait for that.
   */
  timeout?: number | undefined
}

/** How a manager shall end its group. */
export interface RemoteStopOptions extends AskOptions {
  /** Milliseconds that all instances together have to end; by default that of the group. */
  grace?: number | undefined
}

/** What to read of the output of instances. */
export interface LogsOptions extends AskOptions {
  /** How many of the last lines, 10 by default; at most 1,000 are kept. */
  lines?: number | undefined
  /** Go on with the lines that come. */
  follow?: boolean | undefined
}

const ASK: Rules = { timeout: duration(1, LONGEST_MS, 'milliseconds'), signal }
const STOP: Rules = { ...ASK, grace: duration(0, LONGEST_MS, 'milliseconds') }
const LOGS: Rules = { ...ASK, lines: integer(0, 2 ** 20), follow: flag }
const GROUPS: Rules = { ...ASK, service: text(64) }
/** For those who only look. */
const GLANCE = 2000
const TIMEOUT = 5000
const MANAGER = managerName('')
const MEMBER = memberName('')

type Inquirer = Client<ManagerRequest, { instances: GroupInstance[] }>

/** A manager in any process of the bus. */
export class RemoteManager {
  /** The service that it keeps up. */
  readonly service: string
  /** Its id, as the metadata of its members has it. */
  readonly id: string
  /** Its process, as its own pid namespace numbers it. */
  readonly pid: number
  readonly #bus: Bus
  readonly #record: Service

  /** @internal Use `managersOn`. */
  constructor(bus: Bus, record: Service) {
    this.service = record.name.slice(0, -MANAGER.length)
    this.id = String(record.metadata['manager'])
    this.pid = record.pid
    this.#bus = bus
    this.#record = record
  }

  /** @internal Its id, and those of dead managers whose instances it has. */
  get ids(): readonly string[] {
    const { managers } = this.#record.metadata
    return Array.isArray(managers) ? managers.map(String) : []
  }

  /** Its instances. Rejects with `ERR_RINGBELL_TIMEOUT` if it does not answer, with an `AbortError`, and as every call does. */
  async instances(options: AskOptions = {}): Promise<GroupInstance[]> {
    check(options, ASK)
    return this.#ask(undefined, options)
  }

  /** As `group.restart()` there. Rejects with a `RemoteError` if that fails. */
  async restart(options: AskOptions = {}): Promise<GroupInstance[]> {
    check(options, ASK)
    return this.#ask({ method: 'restart' }, options)
  }

  /** As `group.forceFailover()` there. */
  async forceFailover(options: AskOptions = {}): Promise<GroupInstance[]> {
    check(options, ASK)
    return this.#ask({ method: 'failover' }, options)
  }

  /** As `group.stop()` there. */
  async stop(options: RemoteStopOptions = {}): Promise<GroupInstance[]> {
    check(options, STOP)
    return this.#ask({ method: 'stop', grace: options.grace }, options)
  }

  /**
   * The output of its instances, if that group has `output`. It ends with the group, by leaving the loop, or by the signal.
   *
   * @throws {RingbellError} `ERR_RINGBELL_INVALID_OPTION`.
   */
  logs(options: LogsOptions = {}): AsyncGenerator<LogLine, void> {
    check(options, LOGS)
    return this.#logs(options)
  }

  async *#logs({ lines = 10, follow = false, timeout, signal }: LogsOptions): AsyncGenerator<LogLine, void> {
    throwIfAborted(signal)
    const client = await this.#client()
    try {
      await this.#answer(client, { timeout, signal })
      const request: ManagerRequest = { method: 'logs', lines, follow }
      yield* client.stream(request, { instance: this.#record.id, signal }) as unknown as AsyncIteration<LogLine>
    } finally {
      await client.close()
    }
  }

  /** Asks first whether it answers, because what takes long has no limit. */
  async #ask(request: ManagerRequest | undefined, { timeout, signal }: AskOptions): Promise<GroupInstance[]> {
    throwIfAborted(signal)
    const client = await this.#client()
    try {
      const instances = await this.#answer(client, { timeout, signal })
      if (request === undefined) return instances
      return (await client.call(request, { instance: this.#record.id, signal })).instances
    } finally {
      await client.close()
    }
  }

  async #answer(client: Inquirer, { timeout = TIMEOUT, signal }: AskOptions): Promise<GroupInstance[]> {
    try {
      const { instances } = await client.call({ method: 'instances' }, { instance: this.#record.id, timeout, signal })
      return instances
    } catch (error) {
      if (!isRingbellError(error) || error.code !== 'ERR_RINGBELL_TIMEOUT') throw error
      throw new RingbellError(
        'ERR_RINGBELL_TIMEOUT',
        `The manager of '${this.service}', process ${this.pid}, has not answered for ${timeout} ms; is it stopped, or very busy?`,
        { cause: error },
      )
    }
  }

  async #client(): Promise<Inquirer> {
    const client = await this.#bus.connect(managerName(this.service), { codec: 'json', route: 'round-robin' })
    // The call tells it.
    client.on('failed', (error) => debug('asking a manager of %s: %s', this.service, error))
    return client as unknown as Inquirer
  }
}

/** The managers on a bus. @throws {RingbellError} as `bus.services.list`. */
export function managersOn(bus: Bus, options: GroupsOptions = {}): RemoteManager[] {
  check(options, GROUPS)
  const { service } = options
  return bus.services
    .list()
    .filter(
      ({ name, kind }) =>
        name.endsWith(MANAGER) && kind === 'server' && (service === undefined || name === managerName(service)),
    )
    .map((record) => new RemoteManager(bus, record))
}

/**
 * All instances of all groups on a bus: those that managers tell, and members without one, or whose manager does not answer.
 * Rejects with `ERR_RINGBELL_CLOSED` or an `AbortError`, and as `bus.services.list` throws.
 */
export async function instancesOn(bus: Bus, options: GroupsOptions = {}): Promise<GroupInstance[]> {
  const { service, timeout = GLANCE, signal } = options
  const managers = managersOn(bus, options)
  const answers = await Promise.all(
    managers.map((manager) =>
      manager.instances({ timeout, signal }).catch((error: unknown) => fromNative(error) as RingbellError),
    ),
  )
  throwIfAborted(signal)
  const told = answers.flatMap((answer) => (Array.isArray(answer) ? answer : []))
  const answered = new Set(managers.flatMap(({ ids }, at) => (Array.isArray(answers[at]) ? ids : [])))
  const keyOf = (one: GroupInstance): string => `${one.service} ${one.pid} ${one.pidNamespace}`
  const known = new Set(told.map(keyOf))
  const members = bus.services
    .list()
    .filter(
      ({ name, kind }) =>
        name.endsWith(MEMBER) && kind === 'server' && (service === undefined || name === memberName(service)),
    )
    .filter(({ metadata }) => !answered.has(String(metadata['manager'])) || metadata['manager'] === undefined)
    .map((record) => foreign(record.name.slice(0, -MEMBER.length), record))
    .filter((one) => !known.has(keyOf(one)))
  return [...told, ...members].sort(byName)
}

function byName(a: GroupInstance, b: GroupInstance): number {
  return a.service.localeCompare(b.service) || a.instance.localeCompare(b.instance, undefined, { numeric: true })
}
