/** A group as its manager tells it: its own instances in their places, and the members of others. It changes nothing. */
import type { Service } from '../index.js'
import { ownPidNamespace } from './ancestry.js'
import type { GroupInstance } from './group-options.js'
import type { Instance } from './instance.js'
import type { Place } from './place.js'
import { foreign, memberInfo, type Roster } from './roster.js'

export class GroupView {
  readonly #service: string
  readonly #manager: string
  readonly #places: readonly Place[]
  readonly #roster: () => Roster | undefined
  readonly #pidNamespace = ownPidNamespace()

  /** `manager`: its id. `roster`: what the bus says, while the manager follows that. */
  constructor(service: string, manager: string, places: readonly Place[], roster: () => Roster | undefined) {
    this.#service = service
    this.#manager = manager
    this.#places = places
    this.#roster = roster
  }

  /** All instances that are known: those of this manager, in the order of their places, and then the members of others. */
  get instances(): GroupInstance[] {
    const own = new Set(this.#places.flatMap(({ instances }) => instances.map(({ member }) => member?.id)))
    // One that this manager has started and that is in no place has ended, and its record has not gone yet.
    const others = (this.#roster()?.members ?? []).filter(
      ({ service }) => !own.has(service.id) && memberInfo(service).manager !== this.#manager,
    )
    return [...this.own, ...others.map(({ service, since }) => foreign(this.#service, service, since))]
  }

  /** Those of this manager. */
  get own(): GroupInstance[] {
    return this.#places.map((place) => this.snapshot(place, place.current))
  }

  get primary(): GroupInstance | undefined {
    const [first, ...others] = this.instances.filter(({ role }) => role === 'primary')
    return others.reduce((best, one) => ((one.epoch ?? 0) > (best?.epoch ?? 0) ? one : best), first)
  }

  /** The record of the primary, and its epoch. */
  get primaryMember(): { member: Service; epoch: number } | undefined {
    let best: { member: Service; epoch: number } | undefined
    for (const { service: member } of this.#roster()?.members ?? []) {
      const { role, epoch = 0 } = memberInfo(member)
      if (role === 'primary' && epoch > (best?.epoch ?? -1)) best = { member, epoch }
    }
    return best
  }

  snapshot(place: Place | undefined, instance: Instance | undefined): GroupInstance {
    const { role, epoch } = instance?.info ?? {}
    return Object.freeze({
      service: this.#service,
      instance: String(place?.index ?? ''),
      pid: instance?.process.pid,
      pidNamespace: this.#pidNamespace,
      state: instance?.state ?? place?.state ?? 'stopped',
      role,
      epoch,
      restarts: place?.restarts ?? 0,
      uptime: instance === undefined ? 0 : Math.round(performance.now() - instance.since),
      manager: this.#manager,
    })
  }

  placeOf(instance: Instance): Place | undefined {
    return this.#places.find(({ instances }) => instances.includes(instance))
  }

  /** The instance of this manager that has this record as a member. */
  ownOf(member: Service): Instance | undefined {
    return this.#places.flatMap(({ instances }) => instances).find((one) => one.member?.id === member.id)
  }
}
