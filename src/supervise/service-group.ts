/**
 * A service group as its manager sees it: places in which instances are kept up, and all members, also those that others have started.
 * Users hold this object.
 *
 * The manager elects nobody. Members contend for the claim of the group by themselves (src/group), so a failover needs no
 * manager, and two managers make no second primary. A manager starts, watches, replaces and ends what it has started or taken
 * over. It hears of deaths, records and roles as events. Its only timer is that of the heartbeat, if one was asked for.
 */
import { randomBytes } from 'node:crypto'
import type { Bus, Server, Service, ServiceEvent } from '../index.js'
import { failureOf } from '../closing.js'
import { debug } from '../diagnostics.js'
import { RingbellError } from '../errors.js'
import { membersOf, shown, type ShownOptions } from '../shown.js'
import { Emitter } from '../wait/emitter.js'
import { EventQueue } from '../wait/event-queue.js'
import { Waiters } from '../wait/waiting.js'
import { Checks } from './checks.js'
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
import { LogBook } from './log-book.js'
import { serveManager } from './manager-service.js'
import { MemberCalls } from './member-calls.js'
import { Place, type PlaceHost } from './place.js'
import { openProcess, type ProcessHandle } from './process.js'
import { foreign, memberInfo, Roster } from './roster.js'
import { spawn } from './spawn.js'
import type { LineListener } from './stdio.js'

/** The events of a service group. */
export interface ServiceGroupEvents {
  /** An instance of this manager is ready. */
  ready: [instance: GroupInstance]
  /** The group has a new primary, which others may have started. */
  primary: [instance: GroupInstance]
  /** An instance of this manager has ended. */
  exit: [instance: GroupInstance, status: ExitStatus]
  /** It is started again in so many milliseconds. */
  respawn: [instance: GroupInstance, delay: number]
  /** It is alive and does not answer, or is not well; it is killed now. */
  stalled: [instance: GroupInstance, reason: RingbellError]
  /** A place has failed: its instances have ended too often, too early. `error` says how the last one ended. */
  failed: [error: RingbellError, instance: GroupInstance]
  /** It was stopped, here or by `ringbell stop`, and all of its instances have ended. */
  stopped: []
}

/** How to end a group. */
export interface StopOptions {
  /** Milliseconds that all instances together have to end; by default that of the group. */
  grace?: number | undefined
}

/** The variable by which members learn their manager and place, for their metadata (src/group/options.ts). */
const MEMBER_VARIABLE = 'RINGBELL_MEMBER'

/** Milliseconds that an answer of the control service has at the end. */
const LAST_ANSWER = 1000

/** Keeps a number of instances of a service up. */
export class ServiceGroup extends Emitter<ServiceGroupEvents> implements AsyncDisposable {
  /** The name of the service. */
  readonly service: string
  /** This manager, as the metadata of its members names it. */
  readonly id = randomBytes(8).toString('hex')
  /** @internal */
  logs = new LogBook()
  readonly #bus: Bus
  readonly #options: ServiceGroupOptions
  readonly #policy: GroupPolicy
  readonly #events = new EventQueue<ServiceGroupEvents>(this, 'group', {})
  readonly #waiters = new Waiters<unknown>()
  readonly #places: Place[]
  readonly #managers: string[] = [this.id]
  #roster: Roster | undefined
  #calls: MemberCalls | undefined
  #checks: Checks | undefined
  #manager: Server<unknown> | undefined
  /** Of the last primary that was told. */
  #epoch = 0
  #starting: Promise<void> | undefined
  #restarting: Promise<void> | undefined
  #stopping: Promise<void> | undefined

  /** @throws {RingbellError} `ERR_RINGBELL_INVALID_OPTION`. */
  constructor(bus: Bus, options: ServiceGroupOptions) {
    super()
    checkGroup(options)
    this.service = options.service
    this.#bus = bus
    this.#options = { ...options, args: [...(options.args ?? [])] }
    this.#policy = policyOf(options)
    this.#places = Array.from({ length: this.#policy.replicas }, (_, index) => new Place(index, this.#host()))
  }

  /** All instances that are known: those of this manager, in the order of their places, and then the members of others. */
  get instances(): GroupInstance[] {
    const own = new Set(this.#places.flatMap(({ instances }) => [...instances].map(({ member }) => member?.id)))
    const others = (this.#roster?.members ?? []).filter(({ service }) => !own.has(service.id))
    return [...this.own(), ...others.map(({ service, since }) => foreign(this.service, service, since))]
  }

  /** The primary, if there is one and it is known. */
  get primary(): GroupInstance | undefined {
    const [first, ...others] = this.instances.filter(({ role }) => role === 'primary')
    return others.reduce((best, one) => ((one.epoch ?? 0) > (best?.epoch ?? 0) ? one : best), first)
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
    return (this.#starting ??= this.#start().finally(() => (this.#starting = undefined)))
  }

  /** Ends all instances of this manager at the same time, with one grace for all, and then kills those that are left. */
  async stop(options: StopOptions = {}): Promise<void> {
    checkStop(options)
    const { grace = this.#policy.grace } = options
    await (this.#stopping ??= this.#stop(grace).finally(() => (this.#stopping = undefined)))
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
   * failed call. Rejects if a new one does not get ready; that old one and those after it go on then.
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
    const found = this.#primaryMember()
    if (found === undefined)
      throw new RingbellError('ERR_RINGBELL_NOT_FOUND', `The group '${this.service}' has no primary now.`)
    const { member, epoch } = found
    try {
      await this.#calls?.call(member, 'stepDown', grace + grace, grace)
    } catch (error) {
      const own = this.#ownOf(member)
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
    await Promise.all(this.#places.map((place) => place.stop(grace)))
  }

  /** @internal Those of this manager. */
  own(): GroupInstance[] {
    return this.#places.map((place) => this.#snapshot(place, place.current))
  }

  async #start(): Promise<void> {
    await this.#stopping
    if (this.#roster === undefined) {
      const roster = (this.#roster = new Roster(this.#bus, this.service, (event) => this.#hear(event)))
      this.#calls = new MemberCalls(this.#bus, this.service)
      const { heartbeat } = this.#policy
      if (heartbeat !== undefined) this.#checks = this.#rounds(this.#calls, heartbeat.interval, heartbeat.timeout)
      const orphans = this.#options.adopt === true ? this.#orphans(roster) : []
      const manager = await serveManager(this.#bus, this, this.#managers)
      // It was stopped meanwhile.
      if (this.#roster !== roster) {
        await manager.close()
        throw stoppedError(this.service)
      }
      this.#manager = manager
      for (const place of this.#places) place.start(orphans.shift())
    } else for (const place of this.#places) place.start()
    await this.#when(() => {
      const failed = this.#places.find(({ state }) => state === 'failed')
      if (failed?.error !== undefined) throw failed.error
      return this.#places.every(({ current }) => current?.ready === true) ? true : undefined
    })
  }

  async #stop(grace: number): Promise<void> {
    this.#checks?.close()
    this.#checks = undefined
    this.#waiters.fail(stoppedError(this.service))
    await this.endInstances(grace)
    this.#roster?.close()
    this.#roster = undefined
    const [manager, calls] = [this.#manager, this.#calls]
    this.#manager = undefined
    this.#calls = undefined
    // A caller that reads them, or has asked for the stop, waits for the end of the answer.
    this.logs.close()
    this.logs = new LogBook()
    await manager?.close({ grace: LAST_ANSWER })
    await calls?.close()
    this.#events.add('stopped')
  }

  async #restart(): Promise<void> {
    if (this.#roster === undefined) return this.start()
    const primaryLast = [...this.#places].sort((a, b) => rank(a) - rank(b))
    for (const place of primaryLast) await place.replace((old) => this.#retire(place, old))
  }

  /** Its calls end, and others take over, before it ends. One that does not answer is ended all the same. */
  async #retire(place: Place, old: Instance): Promise<void> {
    const { grace } = this.#policy
    const { member } = old
    this.#changed()
    if (member !== undefined && this.#calls !== undefined)
      await this.#calls.call(member, 'drain', grace + 1000, grace).catch((error: unknown) => {
        debug('draining process %d: %s', old.process.pid, error)
      })
    await place.end(old, grace)
  }

  /** Living members whose manager is dead, as many as there are places. They are this manager's from now on. */
  #orphans(roster: Roster): ProcessHandle[] {
    const living = roster.managers
    const found: ProcessHandle[] = []
    for (const { service } of roster.members) {
      const { manager, draining } = memberInfo(service)
      if (found.length === this.#places.length) break
      if (manager === undefined || living.has(manager) || draining) continue
      const failure = failureOf(() => found.push(openProcess(service)))
      if (failure !== undefined) debug('adopting process %d: %s', service.pid, failure)
      else if (!this.#managers.includes(manager)) this.#managers.push(manager)
    }
    return found
  }

  #rounds(calls: MemberCalls, interval: number, timeout: number): Checks {
    const { health } = this.#options
    return new Checks(
      {
        calls,
        health,
        instances: () =>
          this.#places.flatMap(({ current }) => (current?.ready === true && !current.stopping ? [current] : [])),
        snapshot: (instance) => this.#snapshot(this.#placeOf(instance), instance),
        stalled: (instance, reason) => this.#stalled(instance, reason),
      },
      interval,
      timeout,
    )
  }

  #stalled(instance: Instance, reason: RingbellError): void {
    const place = this.#placeOf(instance)
    instance.stalled = true
    if (place !== undefined) place.error = reason
    this.#events.add('stalled', this.#snapshot(place, instance), reason)
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
      spawn: (place) => this.#spawn(place),
      introduce: (instance) => {
        for (const { service } of this.#roster?.services.values() ?? []) instance.hear('added', service)
      },
      changed: () => this.#changed(),
      ready: (place, instance) => this.#events.add('ready', this.#snapshot(place, instance)),
      exit: (place, instance, status) => this.#events.add('exit', this.#snapshot(place, instance), status),
      respawn: (place, delay) => this.#events.add('respawn', this.#snapshot(place, undefined), delay),
      failed: (place, error) => this.#events.add('failed', error, this.#snapshot(place, undefined)),
    }
  }

  #spawn(place: Place): Promise<ProcessHandle> {
    const { command, args = [], cwd, uid, gid, tied, env, stdio, output } = this.#options
    const instance = String(place.index)
    const member = JSON.stringify({ manager: this.id, instance })
    // The line may come before the promise of the handle resolves.
    let handle: ProcessHandle | undefined
    const listener: LineListener = (line, stream) => {
      this.logs.add({ time: Date.now(), instance, pid: handle?.pid, stream, line })
      output?.(line, stream, this.#snapshot(place, place.current))
    }
    const target = output === undefined ? stdio : listener
    return spawn(command, args, {
      cwd,
      uid,
      gid,
      tied,
      stdio: target,
      env: { IPC_BUS_DIR: this.#bus.path, ...env, [MEMBER_VARIABLE]: member },
    }).then((started) => (handle = started))
  }

  #snapshot(place: Place | undefined, instance: Instance | undefined): GroupInstance {
    const { role, epoch } = instance?.info ?? {}
    return Object.freeze({
      service: this.service,
      instance: String(place?.index ?? ''),
      pid: instance?.process.pid,
      state: instance?.state ?? place?.state ?? 'stopped',
      role,
      epoch,
      restarts: place?.restarts ?? 0,
      uptime: instance === undefined ? 0 : Math.round(performance.now() - instance.since),
      manager: this.id,
    })
  }

  #placeOf(instance: Instance): Place | undefined {
    return this.#places.find(({ instances }) => instances.has(instance))
  }

  #ownOf(member: Service): Instance | undefined {
    return this.#places.flatMap(({ instances }) => [...instances]).find((one) => one.member?.id === member.id)
  }

  #primaryMember(): { member: Service; epoch: number } | undefined {
    let best: { member: Service; epoch: number } | undefined
    for (const { service: member } of this.#roster?.members ?? []) {
      const { role, epoch = 0 } = memberInfo(member)
      if (role === 'primary' && epoch > (best?.epoch ?? -1)) best = { member, epoch }
    }
    return best
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

function stoppedError(service: string): RingbellError {
  return new RingbellError('ERR_RINGBELL_CLOSED', `The group '${service}' is stopped; start it again.`)
}

/** The primary comes last, so that it moves once. */
function rank({ current }: Place): number {
  return current?.info.role === 'primary' ? 1 : 0
}
