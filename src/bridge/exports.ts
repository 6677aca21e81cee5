/**
 * What this bus offers to others: the publishers and servers on it that the lists name, without those that a bridge has announced for
 * another bus. So nothing goes round in circles. A standby of a service group is not offered, because it would refuse.
 */
import type { Bus, Service } from '../index.js'
import { debug } from '../diagnostics.js'
import type { BridgePolicy } from './options.js'
import type { Entry } from './wire.js'

/** Milliseconds before the bus is followed again after it could not be read, and for which changes are gathered. */
const AGAIN = 1000
const GATHER = 5

export class Exports {
  readonly #bus: Bus
  readonly #policy: BridgePolicy
  readonly #changed: () => void
  readonly #offered = new Map<string, Service>()
  /** Everything on the bus. */
  readonly #ids = new Set<string>()
  readonly #end = new AbortController()
  #timer: NodeJS.Timeout | undefined

  /** `changed`: something is offered, or is not offered any more. */
  constructor(bus: Bus, policy: BridgePolicy, changed: () => void) {
    this.#bus = bus
    this.#policy = policy
    this.#changed = changed
    for (const service of bus.services.list()) this.#add(service)
    void this.#follow()
  }

  get size(): number {
    return this.#offered.size
  }

  get(id: string): Service | undefined {
    return this.#offered.get(id)
  }

  /** Whether an instance is on this bus itself. */
  isHere(id: string): boolean {
    return this.#ids.has(id)
  }

  entries(): Entry[] {
    return [...this.#offered.values()].map(entryFor)
  }

  close(): void {
    clearTimeout(this.#timer)
    this.#end.abort()
  }

  async #follow(): Promise<void> {
    const { signal } = this.#end
    while (!signal.aborted) {
      try {
        for await (const { type, service } of this.#bus.services.watch({ signal })) {
          const matters = type === 'removed' ? this.#remove(service) : this.#add(service)
          if (matters) this.#timer ??= setTimeout(() => this.#tell(), GATHER)
        }
        return
      } catch (error) {
        if (signal.aborted) return
        debug('a bridge cannot follow its bus: %s', error)
        await new Promise((resolve) => setTimeout(resolve, AGAIN))
        this.#offered.clear()
        this.#ids.clear()
      }
    }
  }

  #tell(): void {
    this.#timer = undefined
    this.#changed()
  }

  /** Whether it is offered, or was. */
  #add(service: Service): boolean {
    this.#ids.add(service.id)
    const { kind, name, origin, group } = service
    if (origin !== undefined || group?.role === 'standby' || !this.#policy.allows(kind, name))
      return this.#offered.delete(service.id)
    this.#offered.set(service.id, service)
    return true
  }

  #remove({ id }: Service): boolean {
    this.#ids.delete(id)
    return this.#offered.delete(id)
  }
}

function entryFor({ id, name, kind, codec, schemaId, metadata, endpoints, topic }: Service): Entry {
  return {
    id,
    name,
    kind: kind as Entry['kind'],
    metadata,
    endpoints,
    ...(codec === undefined ? {} : { codec }),
    ...(schemaId === undefined ? {} : { schemaId }),
    ...(topic === undefined
      ? {}
      : {
          topic: {
            capacity: topic.capacity,
            overflow: topic.overflow,
            maxSubscribers: topic.maxSubscribers,
            ...(topic.evictAfter === undefined ? {} : { evictAfter: topic.evictAfter }),
          },
        }),
  }
}
