/**
 * What the bus says of one group: its members, the instances of its service, and its managers. It follows the bus, and tells
 * each change. It knows nothing of processes.
 */
import type { Bus, Service, ServiceEvent } from '../index.js'
import { debug } from '../diagnostics.js'
import { pauseAfter } from '../wait/backoff.js'
import { pidNamespaceOf } from './ancestry.js'
import type { GroupInstance } from './group-options.js'
import { managerName, memberName } from './names.js'

export type Role = 'primary' | 'standby'

/** What the record of a member says. */
export interface MemberInfo {
  readonly role: Role | undefined
  readonly epoch: number | undefined
  /** The id of the manager that has started it. */
  readonly manager: string | undefined
  /** Its place there. */
  readonly instance: string | undefined
  readonly draining: boolean
}

export function memberInfo({ metadata }: Service): MemberInfo {
  const { role, epoch, manager, instance, state } = metadata
  return {
    role: role === 'primary' || role === 'standby' ? role : undefined,
    epoch: typeof epoch === 'number' ? epoch : undefined,
    manager: typeof manager === 'string' ? manager : undefined,
    instance: typeof instance === 'string' ? instance : undefined,
    draining: state === 'draining',
  }
}

/** A member that is no instance of the manager which looks. */
export function foreign(name: string, service: Service, since = performance.now()): GroupInstance {
  const { role, epoch, manager, instance } = memberInfo(service)
  const place =
    manager === undefined || instance === undefined ? service.id.slice(0, 8) : `${manager.slice(0, 4)}/${instance}`
  return Object.freeze({
    service: name,
    instance: place,
    pid: service.pid,
    pidNamespace: pidNamespaceOf(service),
    state: role ?? 'ready',
    role,
    epoch,
    restarts: 0,
    uptime: Math.round(performance.now() - since),
    manager,
  })
}

/** Pauses after the bus could not be read. */
const RETRY = { delay: 50, maxDelay: 5000 }

export class Roster {
  /** Everything of this group by id, with the time of `performance.now()` at which it was first seen. */
  readonly services = new Map<string, { service: Service; since: number }>()
  /** The name of the group. */
  readonly service: string
  readonly #bus: Bus
  readonly #names: ReadonlySet<string>
  readonly #changed: (event: ServiceEvent) => void
  readonly #abort = new AbortController()

  constructor(bus: Bus, service: string, changed: (event: ServiceEvent) => void) {
    this.#bus = bus
    this.service = service
    this.#names = new Set([service, memberName(service), managerName(service)])
    this.#changed = changed
    // What is there now is known when the constructor returns.
    this.refresh()
    void this.#follow()
  }

  /** Takes in what is on the bus now. @throws {RingbellError} as `bus.services.list`. */
  refresh(): void {
    const found = this.#bus.services.scan()
    const ids = new Set(found.map(({ id }) => id))
    for (const { service } of this.services.values())
      if (!ids.has(service.id)) this.#apply({ type: 'removed', service })
    for (const service of found) this.#apply({ type: 'added', service })
  }

  get members(): { service: Service; since: number }[] {
    return this.#named(memberName(this.service))
  }

  /** Those that have announced the service itself. */
  get instances(): { service: Service; since: number }[] {
    return this.#named(this.service)
  }

  /** The ids of living managers, with those of managers whose instances they have taken over. */
  get managers(): Set<string> {
    const name = managerName(this.service)
    const ids = [...this.services.values()].flatMap(({ service }) => {
      const list = service.name === name ? service.metadata['managers'] : undefined
      return Array.isArray(list) ? list.filter((id): id is string => typeof id === 'string') : []
    })
    return new Set(ids)
  }

  close(): void {
    this.#abort.abort()
  }

  #named(name: string): { service: Service; since: number }[] {
    return [...this.services.values()].filter(({ service }) => service.name === name)
  }

  async #follow(): Promise<void> {
    const { signal } = this.#abort
    for (let failures = 0; ;) {
      try {
        const watch = this.#bus.services.watch({ filter: `${this.service}*`, signal })
        // What went while nobody watched has no event.
        this.refresh()
        for await (const event of watch) {
          failures = 0
          this.#apply(event)
        }
        return
      } catch (error) {
        if (signal.aborted || this.#bus.closed) return
        debug('following the group %s: %s', this.service, error)
      }
      await new Promise((resolve) => setTimeout(resolve, pauseAfter(++failures, RETRY)))
      if (signal.aborted || this.#bus.closed) return
    }
  }

  #apply(event: ServiceEvent): void {
    const { type, service } = event
    if (!this.#names.has(service.name) || this.#abort.signal.aborted) return
    if (type === 'removed') this.services.delete(service.id)
    else this.services.set(service.id, { service, since: this.services.get(service.id)?.since ?? performance.now() })
    this.#changed(event)
  }
}
