/**
 * One place of a group, in which one instance is kept up: when that ends, another is started, at once or after a pause; after
 * too many short lives in a row the place has failed. A place never has two instances, except while one is replaced.
 */
import type { Service } from '../index.js'
import { failureOf } from '../closing.js'
import { debug } from '../diagnostics.js'
import { asRingbellError, RingbellError } from '../errors.js'
import { pauseAfter } from '../wait/backoff.js'
import { exitedError, type ExitStatus } from './exit.js'
import type { GroupPolicy, InstanceState } from './group-options.js'
import { Instance } from './instance.js'
import type { ProcessHandle } from './process.js'

/** What a place needs of its group. */
export interface PlaceHost {
  readonly service: string
  readonly policy: GroupPolicy
  /** `instance`: the one that this becomes, once it is known. */
  spawn(place: Place, instance: () => Instance | undefined): Promise<ProcessHandle>
  /** What the bus says now is told to a new instance. */
  introduce(instance: Instance): void
  /** A state may be another one. */
  changed(): void
  ready(place: Place, instance: Instance): void
  /** `state`: that of the place now, or `'stopped'` if another instance is in it. */
  exit(place: Place, instance: Instance, status: ExitStatus, state: InstanceState): void
  respawn(place: Place, delay: number): void
  failed(place: Place, error: RingbellError): void
}

export function stoppedError(service: string): RingbellError {
  return new RingbellError('ERR_RINGBELL_CLOSED', `The group '${service}' is stopped; start it again.`)
}

export class Place {
  readonly index: number
  /** How often an instance was started again. */
  restarts = 0
  /** Why it has failed. */
  error: RingbellError | undefined
  readonly #host: PlaceHost
  #current: Instance | undefined
  /** All whose end was not told yet, with those that are being replaced, and when that will be. */
  readonly #instances = new Map<Instance, Promise<void>>()
  readonly #starts = new Set<Promise<Instance>>()
  /** From `start` to `stop`. What went on for longer than a wait looks whether it is still the same. */
  #kept: object | undefined
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

  get instances(): readonly Instance[] {
    return [...this.#instances.keys()]
  }

  get state(): InstanceState {
    return this.#current?.state ?? this.#idle
  }

  /** Its instance is ready, or was ready and has ended, and is not to be started again. */
  get settled(): boolean {
    return this.#current === undefined ? this.#kept !== undefined && this.#idle === 'stopped' : this.#current.ready
  }

  /** Keeps an instance up from now on; `adopted` is one that runs. */
  start(adopted?: ProcessHandle): void {
    const over = this.#current === undefined && (this.#idle === 'failed' || this.#idle === 'stopped')
    if (this.#kept !== undefined && !over) return
    this.#kept = {}
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
    this.#kept = undefined
    this.#callOff()
    if (this.#current === undefined) this.#idle = 'stopped'
    await Promise.allSettled(this.#starts)
    await Promise.all(
      [...this.#instances].map(async ([instance, told]) => {
        const { exited } = await this.end(instance, grace)
        if (exited) await told
      }),
    )
    this.#host.changed()
  }

  async end(instance: Instance, grace: number): Promise<ExitStatus> {
    instance.stopping = true
    this.#host.changed()
    return instance.process.shutdown(grace)
  }

  /**
   * Starts another instance, and when that is ready calls `retire` with the one before, which must end it. Rejects if it
   * does not get ready; then the one before goes on. Rejects with `ERR_RINGBELL_CLOSED` if the place is stopped.
   */
  async replace(retire: (old: Instance) => Promise<unknown>): Promise<void> {
    const kept = this.#kept
    if (kept === undefined) throw stoppedError(this.#host.service)
    this.#callOff()
    const old = this.#current
    let successor: Instance | undefined
    try {
      successor = await this.#spawned()
      // The one before may be the only one that serves, so what it has announced must be there again.
      await successor.untilReady(this.#host.policy.readyTimeout, old?.names)
    } catch (error) {
      // What `stop` has found it ends itself, with its own grace.
      if (kept !== this.#kept) throw stoppedError(this.#host.service)
      const known = asRingbellError(error, 'instance')
      if (successor !== undefined) {
        if (!successor.process.status.exited) successor.reason = known
        await this.end(successor, 0)
      }
      if (kept === this.#kept) this.#resume(known)
      throw error
    }
    if (kept !== this.#kept) throw stoppedError(this.#host.service)
    // The one before may have ended and been started again meanwhile.
    const before = this.#current ?? old
    this.restarts++
    this.#failures = 0
    this.error = undefined
    this.#callOff()
    this.#current = successor
    this.#host.ready(this, successor)
    this.#host.changed()
    if (before === undefined || before.process.status.exited) return
    before.stopping = true
    await retire(before)
  }

  /** A change on the bus. */
  hear(type: 'added' | 'updated' | 'removed', service: Service): void {
    for (const instance of this.#instances.keys()) {
      const before = instance.ready
      if (!instance.hear(type, service) || !before || instance.ready || instance.process.status.exited) continue
      void this.#becomesReady(instance)
    }
  }

  async #begin(): Promise<void> {
    const kept = this.#kept
    this.#idle = 'starting'
    this.#host.changed()
    let instance: Instance
    try {
      instance = await this.#spawned()
    } catch (error) {
      // It was stopped, or a replacement came first.
      if (kept !== this.#kept || this.#current !== undefined) return
      const known = asRingbellError(error, 'instance')
      // What cannot be started at all is a mistake, unless something has run out.
      if (this.#started || known.code === 'ERR_RINGBELL_RESOURCE') this.#count(false)
      else this.#idle = 'failed'
      this.#proceed(known)
      return
    }
    // `stop` waits for starts, and ends what they have made.
    if (kept !== this.#kept) return
    if (this.#current === undefined) return this.#take(instance)
    // A replacement came first.
    this.end(instance, this.#host.policy.grace).catch((error: unknown) => {
      debug('ending process %d: %s', instance.process.pid, error)
    })
  }

  #spawned(): Promise<Instance> {
    let instance: Instance | undefined
    const start = this.#host
      .spawn(this, () => instance)
      .then((process) => {
        this.#started = true
        return (instance = this.#made(process))
      })
    this.#starts.add(start)
    return start.finally(() => this.#starts.delete(start))
  }

  #made(process: ProcessHandle): Instance {
    const { service, policy } = this.#host
    const instance = new Instance(process, service, policy.readiness === 'started', () => this.#host.changed())
    this.#instances.set(
      instance,
      process.exited.then((status) => this.#ended(instance, status)),
    )
    this.#host.introduce(instance)
    return instance
  }

  #take(instance: Instance): void {
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
      if (instance.process.status.exited || instance.stopping) return
      instance.reason = asRingbellError(error, 'instance')
      const failure = failureOf(() => instance.process.forceKill())
      if (failure !== undefined) debug('killing process %d: %s', instance.process.pid, failure)
    }
  }

  async #ended(instance: Instance, status: ExitStatus): Promise<void> {
    const { process, wasReady } = instance
    const kept = this.#kept
    const { autoRespawn, minUptime } = this.#host.policy
    const lived = wasReady && performance.now() - instance.since >= minUptime
    const mine = instance === this.#current
    if (mine) {
      this.#current = undefined
      this.#idle = kept === undefined ? 'stopped' : 'backoff'
    }
    this.#host.changed()
    // What it has said last comes before its end.
    const lines = await process.lastWords()
    const unready = wasReady ? undefined : await process.endedUnannounced(this.#host.service)
    this.#instances.delete(instance)
    // It may have been stopped or replaced meanwhile.
    const free = this.#current === undefined && this.#idle === 'backoff' && this.#timer === undefined
    const next = mine && free && kept === this.#kept
    if (next) {
      if (autoRespawn) this.#count(lived)
      else this.#idle = wasReady ? 'stopped' : 'failed'
    }
    this.#host.exit(this, instance, status, mine && this.#current === undefined ? this.#idle : 'stopped')
    if (next)
      this.#proceed(
        instance.reason ?? unready ?? exitedError(`'${process.command}' (process ${process.pid})`, status, lines),
      )
    this.#host.changed()
  }

  /** Counts a life, or a start that has failed, and decides what comes now. */
  #count(lived: boolean): void {
    this.#failures = lived ? 0 : this.#failures + 1
    this.#idle = this.#failures > this.#host.policy.maxRestarts ? 'failed' : 'backoff'
  }

  /** Does what was decided. */
  #proceed(error: RingbellError): void {
    if (this.#idle === 'failed') this.#fail(error)
    else if (this.#idle === 'backoff') this.#again()
  }

  /** Nothing came of a replacement, for which a start was called off. */
  #resume(error: RingbellError): void {
    if (this.#current !== undefined || this.#timer !== undefined || this.#idle !== 'backoff') return
    this.#count(false)
    this.#proceed(error)
  }

  #again(): void {
    const delay = this.#failures === 0 ? 0 : pauseAfter(this.#failures, this.#host.policy.backoff)
    this.#host.respawn(this, delay)
    this.#callOff()
    this.#timer = setTimeout(() => {
      this.#timer = undefined
      this.restarts++
      this.error = undefined
      void this.#begin()
    }, delay)
  }

  #callOff(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
  }

  #fail(error: RingbellError): void {
    this.error = error
    this.#host.failed(this, error)
    this.#host.changed()
  }
}
