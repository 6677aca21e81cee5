/**
 * One process of a group, from its start (or its adoption) to its end: what it has announced, and the state that follows from
 * that. It decides nothing.
 */
import type { RingbellError, Service } from '../index.js'
import { announcing } from './announcing.js'
import type { InstanceState } from './group-options.js'
import type { ProcessHandle } from './process.js'
import { memberName } from './names.js'
import { memberInfo, type MemberInfo } from './roster.js'

const NO_MEMBER: MemberInfo = {
  role: undefined,
  epoch: undefined,
  manager: undefined,
  instance: undefined,
  draining: false,
}

export class Instance {
  readonly process: ProcessHandle
  readonly since = performance.now()
  /** It was asked to end, so its end is no failure. */
  stopping = false
  stalled = false
  /** Why its manager has killed it. */
  reason: RingbellError | undefined
  /** It was ready at some time. At its end its records may go before its process. */
  wasReady: boolean
  readonly #service: string
  /** By id. */
  readonly #announced = new Map<string, Service>()
  /** By id: what other processes have announced, while this one is not ready. */
  readonly #others = new Map<string, Service>()
  readonly #changed: () => void
  #ready: boolean
  readonly #listeners = new Set<() => void>()

  /** `ready`: whether it is ready without having announced anything. */
  constructor(process: ProcessHandle, service: string, ready: boolean, changed: () => void) {
    this.process = process
    this.#service = service
    this.#ready = ready
    this.wasReady = ready
    this.#changed = changed
  }

  get ready(): boolean {
    return this.#ready || this.#announced.size > 0
  }

  /** Its record as a member. */
  get member(): Service | undefined {
    const name = memberName(this.#service)
    return [...this.#announced.values()].find((service) => service.name === name)
  }

  get info(): MemberInfo {
    const { member } = this
    return member === undefined ? NO_MEMBER : memberInfo(member)
  }

  get state(): InstanceState {
    if (this.process.status.exited) return 'stopped'
    if (this.stopping) return 'stopping'
    if (this.stalled) return 'stalled'
    return this.ready ? (this.info.role ?? 'ready') : 'starting'
  }

  /** Takes in a change on the bus, if it is about this very process. */
  hear(type: 'added' | 'updated' | 'removed', service: Service): boolean {
    if (type === 'removed') {
      this.#others.delete(service.id)
      if (!this.#announced.delete(service.id)) return false
    } else if (this.#announced.has(service.id)) this.#announced.set(service.id, service)
    else if (service.pid === this.process.pid && this.process.announced(service)) {
      this.#announced.set(service.id, service)
    } else {
      if (!this.ready) this.#others.set(service.id, service)
      return false
    }
    this.wasReady ||= this.ready
    this.#changed()
    for (const listener of this.#listeners) listener()
    return true
  }

  hasAnnounced({ id }: Service): boolean {
    return this.#announced.has(id)
  }

  /** The names that it has announced. */
  get names(): string[] {
    return [...new Set([...this.#announced.values()].map(({ name }) => name))]
  }

  /**
   * Resolves when it is ready, and has announced all of these names. Rejects with `ERR_RINGBELL_EXITED` or `ERR_RINGBELL_TIMEOUT`.
   */
  async untilReady(timeout: number, names: readonly string[] = []): Promise<void> {
    const missing = (): string | undefined => {
      const own = this.names
      return this.ready ? names.find((name) => !own.includes(name)) : this.#service
    }
    const first = missing()
    if (first === undefined) return
    await announcing<void>(
      this.process,
      first,
      (waiting) => {
        const listener = (): void => {
          if (missing() === undefined) waiting.resolve()
        }
        this.#listeners.add(listener)
        return () => this.#listeners.delete(listener)
      },
      {
        timeout,
        others: () => [...this.#others.values()].filter(({ name }) => name === first || name === memberName(first)),
      },
    )
  }
}
