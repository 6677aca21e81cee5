/**
 * A service group as its manager sees it: places in which instances are kept up, and all members, also those that others have started.
 * Users hold this object.
 *
 * The manager elects nobody. Members contend for the claim of the group by themselves (src/group), so a failover needs no
 * manager, and two managers make no second primary. A manager starts, watches, replaces and ends what it has started or taken
 * over. It hears of deaths, records and roles as events. Its only timer is that of the heartbeat, if one was asked for.
 */
import { randomBytes } from 'node:crypto'
import type { Bus, Server, ServiceEvent } from '../index.js'
import { failureOf } from '../closing.js'
import { debug } from '../diagnostics.js'
import { RingbellError } from '../errors.js'
import { membersOf, shown, type ShownOptions } from '../shown.js'
import { Emitter } from '../wait/emitter.js'
import { EventQueue } from '../wait/event-queue.js'
import { Waiters } from '../wait/waiting.js'
import { adopt, type Adoption } from './adoption.js'
import { Checks } from './checks.js'
import { ConnectTest } from './connect-test.js'
import type { ExitStatus } from './exit.js'
import {
  checkGroup,
  checkStop,
  type GroupInstance,
  type GroupPolicy,
  policyOf,
  type ServiceGroupOptions,
} from './group-options.js'
import type { Instance } from './instance.js'
import { GroupView } from './group-view.js'
import { Launcher } from './launcher.js'
import type { LogBook } from './log-book.js'
import { serveManager } from './manager-service.js'
import { MemberCalls } from './member-calls.js'
import { Place, type PlaceHost, stoppedError } from './place.js'
import { Roster } from './roster.js'

/** The events of a service group. */
export interface ServiceGroupEvents {
  /** An instance of this manager is ready. */
  ready: [instance: GroupInstance]
  /** The group has a new primary, which others may have started. */
  primary: [instance: GroupInstance]
  /**
   * An instance of this manager has ended, and all of its output was told. Its state says what comes now: `'backoff'`: it is started
   * again; `'failed'`; `'stopped'`. `reason`: why its manager has killed it, if it has.
   */
  exit: [instance: GroupInstance, status: ExitStatus, reason: RingbellError | undefined]
  /** It is started again in so many milliseconds. */
  respawn: [instance: GroupInstance, delay: number]
  /** It is alive and does not answer, or is not well; it is killed now. */
  stalled: [instance: GroupInstance, reason: RingbellError]
  /**
   * A place has failed: its instances have ended too often, too early, or without `autoRespawn` before it was ready. `error` says how
   * the last one ended.
   */
  failed: [error: RingbellError, instance: GroupInstance]
  /** It was stopped, here or by `ringbell stop`, and all of its instances have ended. */
  stopped: []
}

/** How to end a group. */
export interface StopOptions {
  /** Milliseconds that all instances together have to end; by default that of the group. */
  grace?: number | undefined
}

/** Milliseconds that a member has to answer, beside the grace. */
const ANSWER = 2000
/** Milliseconds that an answer of the control service has at the end. */
const LAST_ANSWER = 1000

/** Keeps a number of instances of a service up. */
export class ServiceGroup extends Emitter<ServiceGroupEvents> implements AsyncDisposable {
  /** The name of the service. */
  readonly service: string
  /** This manager, as the metadata of its members names it. */
  readonly id = randomBytes(8).toString('hex')
  readonly #bus: Bus
  readonly #options: ServiceGroupOptions
  readonly #launcher: Launcher
  readonly #policy: GroupPolicy
  readonly #events = new EventQueue<ServiceGroupEvents>(this, 'group', {})
  readonly #waiters = new Waiters<unknown>()
  readonly #places: Place[]
  readonly #view: GroupView
  #roster: Roster | undefined
  #calls: MemberCalls | undefined
  #checks: Checks | undefined
  #manager: Server<unknown> | undefined
  /** Of the last primary that was told. */
  #epoch = 0
  /** From `start` to the first call of `stop`. */
  #life: AbortController | undefined
  #starting: Promise<void> | undefined
  #restarting: Promise<void> | undefined
  #stopping: Promise<void> | undefined

  /** @throws {RingbellError} `ERR_RINGBELL_INVALID_OPTION`. */
  constructor(bus: Bus, options: ServiceGroupOptions) {
    super()
    checkGroup(options)
    this.service = options.service
    this.#bus = bus
    this.#options = { ...options }
    this.#launcher = new Launcher(bus, options, this.id)
    this.#policy = policyOf(options)
    this.#places = Array.from({ length: this.#policy.replicas }, (_, index) => new Place(index, this.#host()))
    this.#view = new GroupView(this.service, this.id, this.#places, () => this.#roster)
  }

  /** All instances that are known: those of this manager, in the order of their places, and then the members of others. */
  get instances(): GroupInstance[] {
    return this.#view.instances
  }

  /** The primary, if there is one and it is known. */
  get primary(): GroupInstance | undefined {
    return this.#view.primary
  }

  /** How many instances of this manager have a process that is alive. */
  get aliveCount(): number {
    return this.#places.filter(({ current }) => current?.process.isAlive() === true).length
  }

  /**
   * Starts the instances. Resolves when all of them are ready. Rejects with the error of a place that has failed; the others go
   * on, until `stop()`. It also rejects with `ERR_RINGBELL_CLOSED` if it is stopped meanwhile.
   */
  start(): Promise<void> {
    if (this.#life?.signal.aborted !== false) {
      this.#life = new AbortController()
      // The one that was stopped rejects by itself.
      this.#starting = undefined
    }
    if (this.#starting !== undefined) return this.#starting
    const starting = this.#start(this.#life.signal).finally(() => {
      if (this.#starting === starting) this.#starting = undefined
    })
    return (this.#starting = starting)
  }

  /**
   * Ends all instances of this manager at the same time, with one grace for all, and then kills those that are left. A further call
   * with a grace may shorten that of the first one.
   */
  async stop(options: StopOptions = {}): Promise<void> {
    checkStop(options)
    const { grace = this.#policy.grace } = options
    this.#life?.abort()
    const shorter = this.#stopping !== undefined && options.grace !== undefined
    this.#stopping ??= this.#stop(grace, this.#starting).finally(() => (this.#stopping = undefined))
    await Promise.all([this.#stopping, shorter ? this.endInstances(grace) : undefined])
  }

  /** As `stop()`. */
  close(options: StopOptions = {}): Promise<void> {
    return this.stop(options)
  }

  /** `await using`: as `stop()`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.stop()
  }

  /**
   * Replaces all instances of this manager, one after the other, the primary last. Each time the new one is started first; when
   * it is ready, the old one steps down, ends the calls that it has, and is ended. So a client that follows the primary has no
   * failed call. Rejects if a new one does not get ready; that old one and those after it go on then. It also rejects with
   * `ERR_RINGBELL_CLOSED` if the group is stopped meanwhile.
   */
  restart(): Promise<void> {
    return (this.#restarting ??= this.#restart().finally(() => (this.#restarting = undefined)))
  }

  /**
   * Makes another member primary: the present one is asked to step down, and killed if it does not answer and is one of this
   * manager. Resolves with the new one. Rejects with `ERR_RINGBELL_NOT_FOUND` if there is no primary, or with
   * `ERR_RINGBELL_TIMEOUT`.
   */
  async forceFailover(): Promise<GroupInstance> {
    const { grace } = this.#policy
    const found = this.#view.primaryMember
    if (found === undefined)
      throw new RingbellError('ERR_RINGBELL_NOT_FOUND', `The group '${this.service}' has no primary now.`)
    const { member, epoch } = found
    try {
      await this.#calls?.call(member, 'stepDown', grace + ANSWER, grace)
    } catch (error) {
      const own = this.#view.ownOf(member)
      if (own === undefined) throw error
      debug('stepping down: %s', error)
      own.process.forceKill()
    }
    return this.#when(() => {
      const { primary } = this
      return primary !== undefined && (primary.epoch ?? 0) > epoch ? primary : undefined
    }, `a new primary of '${this.service}'`)
  }

  /** What `console.log` shows. */
  [Symbol.for('nodejs.util.inspect.custom')](depth: number | null, options: ShownOptions): string {
    return shown('ServiceGroup', membersOf(this, 'service', 'id', 'aliveCount', 'primary'), depth, options)
  }

  /** @internal Ends all instances. The group is stopped when `stop` is called after it. */
  async endInstances(grace = this.#policy.grace): Promise<void> {
    this.#life?.abort()
    this.#waiters.fail(stoppedError(this.service))
    const ends = await Promise.allSettled(this.#places.map((place) => place.stop(grace)))
    const failed = ends.find((end) => end.status === 'rejected')
    if (failed !== undefined) throw failed.reason
  }

  /** @internal Those of this manager. */
  own(): GroupInstance[] {
    return this.#view.own
  }

  /** @internal */
  get logs(): LogBook {
    return this.#launcher.logs
  }

  async #start(life: AbortSignal): Promise<void> {
    await this.#stopping
    if (life.aborted) throw stoppedError(this.service)
    if (this.#manager === undefined) await this.#begin(life)
    else for (const place of this.#places) place.start()
    await this.#when(() => {
      const failed = this.#places.find(({ state }) => state === 'failed')
      if (failed?.error !== undefined) throw failed.error
      return this.#places.every(({ settled }) => settled) ? true : undefined
    })
  }

  /** Announces this manager, and starts its places. If it cannot be announced, nothing stays open. */
  async #begin(life: AbortSignal): Promise<void> {
    let adoption: Adoption | undefined
    try {
      const roster = (this.#roster = new Roster(this.#bus, this.service, (event) => this.#hear(event)))
      const calls = (this.#calls = new MemberCalls(this.#bus, this.service))
      if (this.#options.adopt === true) adoption = await adopt(this.#bus, roster, this.#places.length, life)
      this.#manager = await serveManager(this.#bus, this, [this.id, ...(adoption?.managers ?? [])])
      if (life.aborted) throw stoppedError(this.service)
      const { heartbeat } = this.#policy
      if (heartbeat !== undefined) this.#checks = this.#rounds(calls, heartbeat.interval, heartbeat.timeout)
    } catch (error) {
      for (const process of adoption?.processes.values() ?? []) process.close()
      await this.#letGo()
      throw life.aborted ? stoppedError(this.service) : error
    } finally {
      adoption?.release()
    }
    for (const place of this.#places) place.start(adoption?.processes.get(place.index))
  }

  async #stop(grace: number, starting: Promise<void> | undefined): Promise<void> {
    this.#checks?.close()
    try {
      await this.endInstances(grace)
    } finally {
      await starting?.catch((error: unknown) => debug('starting, and stopped: %s', error))
      await this.#letGo()
    }
    this.#events.add('stopped')
  }

  /** Closes what it needs while it is started. */
  async #letGo(): Promise<void> {
    this.#checks?.close()
    this.#checks = undefined
    this.#roster?.close()
    this.#roster = undefined
    const [manager, calls] = [this.#manager, this.#calls]
    this.#manager = undefined
    this.#calls = undefined
    // A caller that reads them, or has asked for the stop, waits for the end of the answer.
    this.#launcher.endLogs()
    await manager?.close({ grace: LAST_ANSWER })
    await calls?.close()
  }

  async #restart(): Promise<void> {
    if (this.#stopping !== undefined) throw stoppedError(this.service)
    if (this.#manager === undefined) return this.start()
    const life = this.#life
    const primaryLast = [...this.#places].sort((a, b) => rank(a) - rank(b))
    for (const place of primaryLast) {
      await place.replace((old) => this.#retire(place, old))
      if (life?.signal.aborted === true) throw stoppedError(this.service)
    }
  }

  /** Its calls end, and others take over, before it ends. One that does not answer is ended all the same. */
  async #retire(place: Place, old: Instance): Promise<void> {
    const { grace } = this.#policy
    const { member } = old
    this.#changed()
    if (member !== undefined && this.#calls !== undefined)
      await this.#calls.call(member, 'drain', grace + ANSWER, grace).catch((error: unknown) => {
        debug('draining process %d: %s', old.process.pid, error)
      })
    await place.end(old, grace)
  }

  #rounds(calls: MemberCalls, interval: number, timeout: number): Checks {
    const { health } = this.#options
    const connects = new ConnectTest(this.#bus, this.service)
    return new Checks(
      {
        calls,
        health,
        reach: (instance, limit) => connects.reach(instance, limit),
        instances: () =>
          this.#places.flatMap(({ current }) => (current?.ready === true && !current.stopping ? [current] : [])),
        snapshot: (instance) => this.#view.snapshot(this.#view.placeOf(instance), instance),
        stalled: (instance, reason) => this.#stalled(instance, reason),
      },
      interval,
      timeout,
    )
  }

  #stalled(instance: Instance, reason: RingbellError): void {
    const place = this.#view.placeOf(instance)
    instance.stalled = true
    instance.reason = reason
    this.#events.add('stalled', this.#view.snapshot(place, instance), reason)
    this.#changed()
    // Another process can be primary only when this one has ended: while it is stopped, it still holds the claim.
    const failure = failureOf(() => instance.process.forceKill())
    if (failure !== undefined) debug('killing process %d: %s', instance.process.pid, failure)
  }

  #hear({ type, service }: ServiceEvent): void {
    for (const place of this.#places) place.hear(type, service)
    this.#changed()
  }

  #changed(): void {
    const { primary } = this
    if (primary?.epoch !== undefined && primary.epoch > this.#epoch) {
      this.#epoch = primary.epoch
      this.#events.add('primary', primary)
    }
    this.#waiters.check()
  }

  #host(): PlaceHost {
    return {
      service: this.service,
      policy: this.#policy,
      spawn: (place, instance) => this.#launcher.launch(place.index, () => this.#view.snapshot(place, instance())),
      introduce: (instance) => {
        for (const { service } of this.#roster?.services.values() ?? []) instance.hear('added', service)
      },
      changed: () => this.#changed(),
      ready: (place, instance) => this.#events.add('ready', this.#view.snapshot(place, instance)),
      exit: (place, instance, status, state) =>
        this.#events.add(
          'exit',
          Object.freeze({ ...this.#view.snapshot(place, instance), state }),
          status,
          instance.reason,
        ),
      respawn: (place, delay) => this.#events.add('respawn', this.#view.snapshot(place, undefined), delay),
      failed: (place, error) => this.#events.add('failed', error, this.#view.snapshot(place, undefined)),
    }
  }

  /** Looks again at each change. With `what` it waits no longer than the time in which an instance must be ready. */
  #when<V>(find: () => V | undefined, what?: string): Promise<V> {
    const { readyTimeout } = this.#policy
    const late = (): RingbellError =>
      new RingbellError('ERR_RINGBELL_TIMEOUT', `Waited ${readyTimeout} ms for ${String(what)}.`)
    const safely = (): { found: V } | { error: unknown } | undefined => {
      try {
        const found = find()
        return found === undefined ? undefined : { found }
      } catch (error) {
        return { error }
      }
    }
    const outcome = this.#waiters.wait(safely, what === undefined ? {} : { timeout: readyTimeout, late })
    this.#waiters.check()
    return outcome.then((one) => {
      const result = one as { found: V } | { error: unknown }
      if ('error' in result) throw result.error
      return result.found
    })
  }
}

/** The primary comes last, so that it moves once. */
function rank({ current }: Place): number {
  return current?.info.role === 'primary' ? 1 : 0
}
