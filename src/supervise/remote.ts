/** Managers and instances of groups as another process sees them: `ringbell ps`, `restart`, `stop`, `logs` and `top` are made of this. */
import type { AsyncIteration, Bus, Client, RingbellError, Service } from '../index.js'
import { check, duration, LONGEST_MS, type Rules, text } from '../check.js'
import { debug } from '../diagnostics.js'
import { fromNative } from '../errors.js'
import type { GroupInstance } from './group-options.js'
import type { LogLine } from './log-book.js'
import type { ManagerRequest } from './manager-service.js'
import { managerName, memberName } from './names.js'
import { foreign } from './roster.js'

/** Which groups to look at. */
export interface GroupsOptions {
  /** That of one service; by default all. */
  service?: string | undefined
  /** Milliseconds that a manager has to answer, 2,000 by default. */
  timeout?: number | undefined
}

/** What to read of the output of instances. */
export interface LogsOptions {
  /** How many of the last lines, 10 by default; at most 1,000 are kept. */
  lines?: number | undefined
  /** Go on with the lines that come. */
  follow?: boolean | undefined
}

const GROUPS: Rules = { service: text(64), timeout: duration(1, LONGEST_MS, 'milliseconds') }
const TIMEOUT = 2000
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

  /** Its instances. Rejects as every call does. */
  instances(timeout = TIMEOUT): Promise<GroupInstance[]> {
    return this.#ask({ method: 'instances' }, timeout)
  }

  /** As `group.restart()` there. Rejects with a `RemoteError` if that fails. */
  restart(): Promise<GroupInstance[]> {
    return this.#ask({ method: 'restart' })
  }

  /** As `group.forceFailover()` there. */
  forceFailover(): Promise<GroupInstance[]> {
    return this.#ask({ method: 'failover' })
  }

  /** As `group.stop()` there. */
  stop(grace?: number): Promise<GroupInstance[]> {
    return this.#ask({ method: 'stop', grace })
  }

  /** The output of its instances, if that group has `output`. It ends with the group, or by leaving the loop. */
  async *logs({ lines = 10, follow = false }: LogsOptions = {}): AsyncGenerator<LogLine, void> {
    const client = await this.#client()
    try {
      const request: ManagerRequest = { method: 'logs', lines, follow }
      yield* client.stream(request, { instance: this.#record.id }) as unknown as AsyncIteration<LogLine>
    } finally {
      await client.close()
    }
  }

  async #ask(request: ManagerRequest, timeout = 0): Promise<GroupInstance[]> {
    const client = await this.#client()
    try {
      const { instances } = await client.call(request, { instance: this.#record.id, timeout })
      return instances
    } finally {
      await client.close()
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
 * Rejects with `ERR_RINGBELL_CLOSED`, and as `bus.services.list` throws.
 */
export async function instancesOn(bus: Bus, options: GroupsOptions = {}): Promise<GroupInstance[]> {
  const { service, timeout = TIMEOUT } = options
  const managers = managersOn(bus, options)
  const answers = await Promise.all(
    managers.map((manager) => manager.instances(timeout).catch((error: unknown) => fromNative(error) as RingbellError)),
  )
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
