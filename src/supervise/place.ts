/**
 * One place of a group, in which one instance is kept up: when that ends, another is started, at once or after a pause; after
 * too many short lives in a row the place has failed. A place never has two instances, except while one is replaced.
 */
import type { Service } from '../index.js'
import { failureOf } from '../closing.js'
import { debug } from '../diagnostics.js'
import { asRingbellError, type RingbellError } from '../errors.js'
import { pauseAfter } from '../wait/backoff.js'
import { exitedError, type ExitStatus } from './exit.js'
import type { GroupPolicy, InstanceState } from './group-options.js'
import { Instance } from './instance.js'
import type { ProcessHandle } from './process.js'

/** What a place needs of its group. */
export interface PlaceHost {
  readonly service: string
  readonly policy: GroupPolicy
  spawn(place: Place): Promise<ProcessHandle>
  /** What the bus says now is told to a new instance. */
  introduce(instance: Instance): void
  /** A state may be another one. */
  changed(): void
  ready(place: Place, instance: Instance): void
  exit(place: Place, instance: Instance, status: ExitStatus): void
  respawn(place: Place, delay: number): void
  failed(place: Place, error: RingbellError): void
}

export class Place {
  readonly index: number
  /** How often an instance was started again. */
  restarts = 0
  /** Why it has failed, or why the last instance has ended. */
  error: RingbellError | undefined
  readonly #host: PlaceHost
  #current: Instance | undefined
  /** All that have not ended, with those that are being replaced. */
  readonly #instances = new Set<Instance>()
  readonly #starts = new Set<Promise<Instance>>()
  #wanted = false
  /** An instance could be started in this place. */
  #started = false
  #idle: 'backoff' | 'stopped' | 'failed' | 'starting' = 'stopped'
  #failures = 0
  #timer: NodeJS.Timeout | undefined

  constructor(index: number, host: PlaceHost) {
    this.index = index
    this.#host = host
  }

  get current(): Instance | undefined {
    return this.#current
  }

  get instances(): ReadonlySet<Instance> {
    return this.#instances
  }

  get state(): InstanceState {
    return this.#current?.state ?? this.#idle
  }

  /** Keeps an instance up from now on; `adopted` is one that runs. */
  start(adopted?: ProcessHandle): void {
    if (this.#wanted && this.#idle !== 'failed') return
    this.#wanted = true
    this.#failures = 0
    this.error = undefined
    if (adopted === undefined) void this.#begin()
    else {
      this.#started = true
      this.#take(this.#made(adopted))
    }
  }

  /** Ends what runs, and starts nothing any more. Resolves when it has ended. */
  async stop(grace: number): Promise<void> {
    this.#wanted = false
    clearTimeout(this.#timer)
    if (this.#current === undefined) this.#idle = 'stopped'
    await Promise.allSettled(this.#starts)
    await Promise.all([...this.#instances].map((instance) => this.end(instance, grace)))
    this.#host.changed()
  }

  async end(instance: Instance, grace: number): Promise<ExitStatus> {
    instance.stopping = true
    this.#host.changed()
    return instance.process.shutdown(grace)
  }

  /**
   * Starts another instance, and when that is ready calls `retire` with the one before, which must end it. Rejects if it
   * does not get ready; then the one before goes on.
   */
  async replace(retire: (old: Instance) => Promise<unknown>): Promise<void> {
    clearTimeout(this.#timer)
    const old = this.#current
    const successor = await this.#spawned()
    try {
      // The one before may be the only one that serves, so what it has announced must be there again.
      await successor.untilReady(this.#host.policy.readyTimeout, old?.names)
    } catch (error) {
      await this.end(successor, 0)
      if (this.#current === undefined && this.#wanted) this.#again(false, asRingbellError(error, 'instance'))
      throw error
    }
    // The one before may have ended and been started again meanwhile.
    const before = this.#current ?? old
    this.restarts++
    this.#wanted = true
    this.#failures = 0
    this.error = undefined
    clearTimeout(this.#timer)
    this.#current = successor
    this.#host.ready(this, successor)
    this.#host.changed()
    if (before === undefined || before.process.status.exited) return
    before.stopping = true
    await retire(before)
  }

  /** A change on the bus. */
  hear(type: 'added' | 'updated' | 'removed', service: Service): void {
    for (const instance of this.#instances) {
      const before = instance.ready
      if (instance.hear(type, service) && before && !instance.ready) void this.#becomesReady(instance)
    }
  }

  async #begin(): Promise<void> {
    this.#idle = 'starting'
    this.#host.changed()
    let instance: Instance
    try {
      instance = await this.#spawned()
    } catch (error) {
      const known = asRingbellError(error, 'instance')
      // What cannot be started at all is a mistake, unless something has run out.
      if (!this.#wanted) return
      if (this.#started || known.code === 'ERR_RINGBELL_RESOURCE') this.#again(false, known)
      else this.#fail(known)
      return
    }
    this.#take(instance)
  }

  #spawned(): Promise<Instance> {
    const start = this.#host.spawn(this).then((process) => {
      this.#started = true
      return this.#made(process)
    })
    this.#starts.add(start)
    return start.finally(() => this.#starts.delete(start))
  }

  #made(process: ProcessHandle): Instance {
    const { service, policy } = this.#host
    const instance = new Instance(process, service, policy.readiness === 'started', () => this.#host.changed())
    this.#instances.add(instance)
    void process.exited.then((status) => this.#ended(instance, status))
    this.#host.introduce(instance)
    return instance
  }

  #take(instance: Instance): void {
    if (!this.#wanted) return
    this.#current = instance
    this.#host.changed()
    void this.#becomesReady(instance)
  }

  /** One that does not get ready is killed, and counts as one that has ended early. */
  async #becomesReady(instance: Instance): Promise<void> {
    try {
      await instance.untilReady(this.#host.policy.readyTimeout)
      if (instance === this.#current) this.#host.ready(this, instance)
    } catch (error) {
      this.error = asRingbellError(error, 'instance')
      if (instance.process.status.exited || instance.stopping) return
      const failure = failureOf(() => instance.process.forceKill())
      if (failure !== undefined) debug('killing process %d: %s', instance.process.pid, failure)
    }
  }

  #ended(instance: Instance, status: ExitStatus): void {
    this.#instances.delete(instance)
    this.#host.exit(this, instance, status)
    if (instance === this.#current) {
      this.#current = undefined
      const { autoRespawn, minUptime } = this.#host.policy
      if (!this.#wanted || instance.stopping || !autoRespawn) {
        this.#wanted = false
        this.#idle = 'stopped'
      } else {
        this.#idle = 'backoff'
        if (instance.wasReady && performance.now() - instance.since >= minUptime) this.#again(true)
        else void this.#endedEarly(instance, status)
      }
    }
    this.#host.changed()
  }

  /** What it has said last may still be on its way. */
  async #endedEarly({ process }: Instance, status: ExitStatus): Promise<void> {
    const lines = await process.lastWords()
    if (!this.#wanted || this.#current !== undefined) return
    this.#again(false, this.error ?? exitedError(`'${process.command}' (process ${process.pid})`, status, lines))
  }

  #again(lived: boolean, error?: RingbellError): void {
    const { backoff, maxRestarts } = this.#host.policy
    this.#failures = lived ? 0 : this.#failures + 1
    if (error !== undefined && this.#failures > maxRestarts) return this.#fail(error)
    const delay = lived ? 0 : pauseAfter(this.#failures, backoff)
    this.#idle = 'backoff'
    this.#host.respawn(this, delay)
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => {
      this.restarts++
      this.error = undefined
      void this.#begin()
    }, delay)
  }

  #fail(error: RingbellError): void {
    this.error = error
    this.#idle = 'failed'
    this.#host.failed(this, error)
    this.#host.changed()
  }
}
