/**
 * The cached view of a bus: instances by id and by name, updated by the events of the core in their order. It is pure
 * data, without the binding. `find` takes two look-ups, for any number of records.
 */
import { type CoreError, errorOf, type RingbellError } from '../errors.js'
import type { NativeWatch } from '../native.js'
import { serviceOf, type RecordJson, type Service } from './service.js'
import type { News } from './watching.js'

/** What happened to a service instance. */
export interface ServiceEvent {
  /** The kind of the event. */
  readonly type: 'added' | 'updated' | 'removed'
  /** The instance; with `removed`, its last state. */
  readonly service: Service
}

/** An event as it comes from the core. */
type RawServiceEvent = { type: ServiceEvent['type']; record: RecordJson } | { type: 'unreadable'; error: CoreError }

/** Nothing has happened. */
export const NO_NEWS: News<ServiceEvent> = { events: [], unreadable: undefined }

/** Takes what a watch of the core has to say. */
export function newsOf(watch: Pick<NativeWatch, 'take'>): News<ServiceEvent> {
  const json = watch.take()
  if (json === '') return NO_NEWS
  const events: ServiceEvent[] = []
  let unreadable: RingbellError | undefined
  for (const raw of JSON.parse(json) as RawServiceEvent[])
    if (raw.type === 'unreadable') unreadable = errorOf(raw.error)
    else events.push({ type: raw.type, service: serviceOf(raw.record) })
  return { events, unreadable }
}

export class ServicesView {
  readonly #byId = new Map<string, Service>()
  readonly #byName = new Map<string, Service[]>()
  #version = 0

  get size(): number {
    return this.#byId.size
  }

  /** Grows with each change. */
  get version(): number {
    return this.#version
  }

  apply({ type, service }: ServiceEvent): void {
    this.#version++
    const before = this.#byId.get(service.id)
    if (type === 'removed') {
      if (before !== undefined) this.#remove(before)
      return
    }
    this.#byId.set(service.id, service)
    const siblings = this.#byName.get(service.name)
    if (siblings === undefined) this.#byName.set(service.name, [service])
    else if (before === undefined) siblings.push(service)
    else siblings.splice(siblings.indexOf(before), 1, service)
  }

  get(id: string): Service | undefined {
    return this.#byId.get(id)
  }

  /** The instance of this bus that has been known longest, or else a remote one. */
  find(name: string): Service | undefined {
    const siblings = this.#byName.get(name)
    return siblings?.find(({ origin }) => origin === undefined) ?? siblings?.[0]
  }

  /** The instances of exactly this name, in the order in which they came. */
  named(name: string): readonly Service[] {
    return this.#byName.get(name) ?? []
  }

  /** The group `prefix`: services of exactly that name, and those below it (`audio` has `audio.mic`, not `audio2`). */
  findAll(prefix: string): Service[] {
    const found: Service[] = []
    for (const [name, siblings] of this.#byName) if (inGroup(name, prefix)) found.push(...siblings)
    return found
  }

  /** Whether the view has exactly these services: then it has had all events. */
  has(services: readonly Service[]): boolean {
    return services.length === this.#byId.size && services.every(({ id }) => this.#byId.has(id))
  }

  list(): Service[] {
    return [...this.#byId.values()]
  }

  #remove(service: Service): void {
    this.#byId.delete(service.id)
    const siblings = this.#byName.get(service.name)
    if (siblings === undefined) return
    if (siblings.length === 1) this.#byName.delete(service.name)
    else siblings.splice(siblings.indexOf(service), 1)
  }
}

export function inGroup(name: string, prefix: string): boolean {
  return name.startsWith(prefix) && (name.length === prefix.length || name[prefix.length] === '.')
}
