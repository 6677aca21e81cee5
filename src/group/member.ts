/**
 * A member: this process's part in a service group. It contends for the claim named as the group; the kernel decides who holds it
 * (crates/core/src/bus/claim), so it works with one manager, with several and with none. While it holds the claim it is primary.
 *
 * Invariant: what acts for a term (the servers and publishers of the member, its user by the term's signal) is told of its end
 * before the claim is given back. Only a claim that is lost with the bus directory ends without that; then its epoch tells.
 *
 * Its control service `<group>.member` is how managers find members and speak to them. `bus.join` makes members.
 */
import type { Claim } from '../bus/claim.js'
import {
  type MemberEvents,
  type MemberPart,
  Membership,
  type Role,
  type RoleInfo,
  steppedDown,
} from '../bus/membership.js'
import type { Server as NetServer } from 'node:net'
import type { Service } from '../bus/service.js'
import type { Connection } from '../channel/connection.js'
import type { Server } from '../channel/server.js'
import { closedAfter, inSteps } from '../closing.js'
import { refuseInClusterWorker } from '../cluster-worker.js'
import { channels, debug } from '../diagnostics.js'
import { asRingbellError, closedError, type RingbellError } from '../errors.js'
import { membersOf, shown, type ShownOptions } from '../shown.js'
import { checkSignal, type SignalOptions } from '../wait/abort.js'
import type { AsyncIteration } from '../wait/async-iteration.js'
import { EventQueue } from '../wait/event-queue.js'
import { Newest } from '../wait/newest.js'
import { poller } from '../wait/poller.js'
import { waitFor, Waiters } from '../wait/waiting.js'
import { answer, type ControlRequest } from './control.js'
import { type ContenderHost, Contender } from './contender.js'
import {
  checkListen,
  checkStepDown,
  DEFAULT_GRACE,
  fromEnvironment,
  type JoinOptions,
  type ListenOptions,
  type StepDownOptions,
} from './options.js'
import { Records } from './records.js'
import { SharedServer } from './shared-server.js'
import { Sockets, type SocketsHost } from './sockets.js'
import { Term } from './term.js'

/** @internal What a bus passes to the constructor. */
export interface MemberParts extends Pick<ContenderHost, 'claim' | 'watch'> {
  readonly group: string
  readonly options: JoinOptions
  /** Offers the control service. */
  serve(
    metadata: Record<string, unknown>,
    handler: (request: ControlRequest, connection: Connection<unknown>) => unknown,
  ): Server<unknown>
  /** The other members. */
  others(own: Service): Service[]
  readonly sockets: Pick<SocketsHost, 'claim' | 'connect'>
  closed(member: Member): void
}

/** What a member says of itself. `draining`: it does not contend any more, and its process is about to end. */
export type MemberState = 'ready' | 'stepping-down' | 'draining'

/** One process's part in a service group; `bus.join()` makes it. Like a server, it keeps the process alive unless it is `unref`ed. */
export class Member extends Membership implements AsyncDisposable {
  readonly group: string
  readonly #parts: MemberParts
  readonly #control: Server<unknown>
  readonly #events = new EventQueue<MemberEvents>(this, 'member', channels.member)
  readonly #included = new Set<MemberPart>()
  readonly #iterations = new Set<Newest<RoleInfo>>()
  readonly #waiters = new Waiters<unknown>({ began: () => poller().hold(), ended: () => poller().drop() })
  readonly #contender: Contender
  readonly #records = new Records((error) => this.#failed(error))
  readonly #metadata: Record<string, unknown>
  /** @internal */
  readonly sockets: Sockets
  #info: RoleInfo = { role: 'standby', epoch: 0 }
  #state: MemberState = 'ready'
  /** The present term, until its claim is given back. */
  #tenure: Tenure | undefined
  #lastBeat = performance.now()
  #closed = false

  /** @internal Use `bus.join()`. */
  constructor(parts: MemberParts) {
    super()
    this.group = parts.group
    this.#parts = parts
    this.#metadata = { ...fromEnvironment(), ...parts.options.metadata }
    const others = (): Service[] => parts.others(this.service)
    this.sockets = new Sockets({ ...parts.sockets, others, failed: (error) => this.#failed(error) }, () => this.#tell())
    this.#control = parts.serve(this.#described, (request, connection) => answer(this, request, connection))
    this.#contender = new Contender({
      claim: parts.claim,
      watch: parts.watch,
      contested: () => others().some(({ metadata }) => metadata['state'] !== 'draining'),
      serve: (claim) => this.#serve(claim),
      failed: (error) => this.#failed(error),
    })
    this.#publish('opened')
    void this.#contender.run()
  }

  get role(): Role {
    return this.#info.role
  }

  get epoch(): number {
    return this.#info.epoch
  }

  /** What it says of itself to managers. */
  get state(): MemberState {
    return this.#state
  }

  /** The present term; `undefined` while it is a standby. */
  get term(): Term | undefined {
    return this.#info.role === 'primary' ? this.#tenure?.term : undefined
  }

  /** Resolves when it is primary, at once if it is. Rejects with `ERR_RINGBELL_CLOSED` when the member has left. */
  get primary(): Promise<Term> {
    return this.#when(() => this.term)
  }

  /** Resolves when it is a standby, at once if it is. Rejects as `primary` does. */
  get standby(): Promise<void> {
    return this.#standby()
  }

  /** Whether it has left its group. */
  get closed(): boolean {
    return this.#closed
  }

  /** The member's record, as others see it. */
  get service(): Service {
    return this.#control.service
  }

  /** Milliseconds since the work has last called `beat()`; 0 if its event loop is what beats. */
  get beatAge(): number {
    return this.#parts.options.heartbeat === 'manual' ? performance.now() - this.#lastBeat : 0
  }

  /** The work goes on. Only with `heartbeat: 'manual'` does anybody ask for it. */
  beat(): void {
    this.#lastBeat = performance.now()
  }

  /**
   * Iterates over the role: as it is now, then after each change, always the newest. It ends by `break`, by the signal (it rejects with
   * an `AbortError`), or when the member leaves.
   */
  roles(options: SignalOptions = {}): AsyncIteration<RoleInfo> {
    checkSignal(options)
    this.#assertOpen()
    const roles = new Newest<RoleInfo>(this.#info, options.signal, (ended) => this.#iterations.delete(ended))
    this.#iterations.add(roles)
    return roles
  }

  /**
   * Lets a server of Node (`node:net`, `node:http`) listen on a socket that the members of the group share: the first one opens it, and
   * the others get it from a living member. It accepts while this member is primary (or always). Connections wait in between, so none
   * is refused at a failover or a restart. At a step-down it stops to accept, and what it has accepted has `grace` milliseconds to end.
   *
   * Resolves when the socket is held here. Rejects with `ERR_RINGBELL_INVALID_OPTION`, `ERR_RINGBELL_SYSTEM` (EADDRINUSE: somebody else has
   * the address), `ERR_RINGBELL_RESOURCE` or `ERR_RINGBELL_CLOSED`.
   */
  async listen(server: NetServer, options: ListenOptions): Promise<SharedServer> {
    checkListen(server, options)
    await refuseInClusterWorker(server)
    this.#assertOpen()
    const { accept, path } = options
    const socket = await this.sockets.take(options)
    let leave = (): void => {}
    const closed = (): void => {
      leave()
      this.sockets.drop(options)
    }
    let shared: SharedServer
    try {
      shared = new SharedServer({ server, socket, always: accept === 'always', path, closed })
      leave = this.include(shared.part)
    } catch (error) {
      throw closedAfter(error, { close: closed })
    }
    this.#records.write(shared.part, () => shared.follow(this.role))
    return shared
  }

  /**
   * Gives the claim back and stands by, behind the other members. First the servers of this member refuse new calls, and those that
   * run have `grace` milliseconds to end. `false`: it was no primary. It resolves when another member can be primary.
   */
  async stepDown(options: StepDownOptions = {}): Promise<boolean> {
    checkStepDown(options)
    this.#assertOpen()
    return this.#stepDown(options.grace)
  }

  /**
   * Steps down, does not become primary again, and closes its servers. A call that they have not taken is made again by a client that
   * follows the primary, so the process can end then without a call being lost.
   */
  async drain(options: StepDownOptions = {}): Promise<void> {
    checkStepDown(options)
    this.#assertOpen()
    const { grace = this.#grace } = options
    const end = performance.now() + grace
    this.#contender.stop()
    this.#say('draining')
    await this.#stepDown(grace)
    await this.#within(Math.max(0, end - performance.now()), () => this.#retire())
  }

  /** Steps down and leaves the group. Idempotent. */
  async leave(options: StepDownOptions = {}): Promise<void> {
    checkStepDown(options)
    try {
      if (!this.#closed) await this.drain(options)
    } finally {
      this.closeNow()
    }
  }

  /** As `leave()`. */
  close(options: StepDownOptions = {}): Promise<void> {
    return this.leave(options)
  }

  /** `await using`: as `leave()`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.leave()
  }

  /** Keeps the process alive (the default). */
  ref(): this {
    this.#control.ref()
    return this
  }

  /** Does not keep the process alive. */
  unref(): this {
    this.#control.unref()
    return this
  }

  /** What `console.log` shows. */
  [Symbol.for('nodejs.util.inspect.custom')](depth: number | null, options: ShownOptions): string {
    return shown('Member', membersOf(this, 'group', 'role', 'epoch', 'state', 'closed'), depth, options)
  }

  /** @internal */
  include(part: MemberPart): () => void {
    this.#assertOpen()
    this.#included.add(part)
    return () => {
      this.#included.delete(part)
      this.#records.forget(part)
    }
  }

  /** @internal It leaves at once. */
  closeNow(): void {
    if (this.#closed) return
    this.#closed = true
    const error = closedError('member')
    inSteps(
      () => this.#contender.stop(),
      () => this.#end(this.#tenure, error),
      () => void this.#retire().catch((failure: unknown) => debug('leaving %s: %s', this.group, failure)),
      () => this.#records.close(),
      () => this.sockets.close(),
      () => this.#control.closeNow(),
      () => this.#waiters.fail(error),
      () => [...this.#iterations].forEach((roles) => roles.end()),
      () => this.#events.clear(),
      () => this.#parts.closed(this),
      () => this.#publish('closed'),
    )
  }

  get #described(): Record<string, unknown> {
    const { role, epoch } = this.#info
    const heartbeat = this.#parts.options.heartbeat ?? 'loop'
    const { names } = this.sockets
    const sockets = names.length === 0 ? {} : { sockets: names }
    return { ...this.#metadata, group: this.group, role, epoch, state: this.#state, heartbeat, ...sockets }
  }

  /** One term, until it has ended. */
  async #serve(claim: Claim): Promise<void> {
    const tenure: Tenure = { term: new Term(claim.epoch), claim, steppingDown: undefined }
    this.#tenure = tenure
    this.#become({ role: 'primary', epoch: claim.epoch })
    void claim.lost.then((reason) => this.#end(tenure, reason))
    await tenure.term.ended
  }

  async #standby(): Promise<void> {
    await this.#when(() => (this.role === 'standby' ? this : undefined))
  }

  get #grace(): number {
    return this.#parts.options.grace ?? DEFAULT_GRACE
  }

  async #stepDown(grace = this.#grace): Promise<boolean> {
    const tenure = this.#tenure
    if (tenure === undefined) return false
    await (tenure.steppingDown ??= this.#endTerm(tenure, grace))
    return true
  }

  async #endTerm(tenure: Tenure, grace: number): Promise<void> {
    const { term } = tenure
    const reason = steppedDown(this)
    if (this.#state === 'ready') this.#state = 'stepping-down'
    this.#become({ role: 'standby', epoch: term.epoch })
    term.abort(reason)
    await this.#within(grace, () => this.#settled(term))
    this.#end(tenure, reason)
  }

  /** What `onStepDown` throws does not keep the claim. The grace is over without an error. */
  async #within(grace: number, work: () => Promise<unknown>): Promise<void> {
    try {
      await waitFor(
        (waiting) => {
          work().then(
            () => waiting.resolve(),
            (error) => waiting.reject(error),
          )
          return () => {}
        },
        { timeout: grace, late: () => LATE },
      )
    } catch (error) {
      if (error !== LATE) this.#failed(error)
    }
  }

  async #settled(term: Term): Promise<void> {
    await this.#parts.options.onStepDown?.(term)
    await Promise.all([...this.#included].map((part) => part.settled()))
  }

  /** Ends a term at once, if it is not over yet: what belongs to it stops first, and then another member can have the claim. */
  #end(tenure: Tenure | undefined, reason: RingbellError): void {
    if (tenure === undefined || this.#tenure !== tenure) return
    const { term, claim } = tenure
    if (this.role === 'primary') this.#become({ role: 'standby', epoch: term.epoch })
    term.abort(reason)
    for (const part of this.#included) this.#attempt(() => part.disown(reason))
    this.#tenure = undefined
    this.#attempt(() => claim.releaseNow())
    term.end(reason)
    if (this.#state === 'stepping-down') this.#say('ready')
  }

  async #retire(): Promise<void> {
    await Promise.all([...this.#included].map((part) => part.retire()))
  }

  /** The parts hear of it first: servers accept before their records say so, and refuse before the claim is given back. */
  #become(info: RoleInfo): void {
    this.#info = info
    for (const part of this.#included) this.#records.write(part, () => part.announce(this.#info))
    this.#tell()
    this.#events.add('role', info)
    for (const roles of this.#iterations) roles.put(info)
    this.#waiters.check()
  }

  #say(state: MemberState): void {
    this.#state = state
    this.#tell()
  }

  #tell(): void {
    if (!this.#control.closed) this.#records.write(this, () => this.#control.update(this.#described))
  }

  #when<V>(find: () => V | undefined): Promise<V> {
    if (this.#closed) return Promise.reject(closedError('member'))
    const found = this.#waiters.wait(find) as Promise<V>
    this.#waiters.check()
    return found
  }

  #attempt(step: () => void): void {
    try {
      step()
    } catch (error) {
      this.#failed(error)
    }
  }

  #failed(error: unknown): void {
    debug('member of %s: %s', this.group, error)
    this.#events.add('failed', asRingbellError(error, 'member'))
  }

  #publish(what: 'opened' | 'closed'): void {
    const channel = channels.member[what]
    if (channel.hasSubscribers) channel.publish({ member: this })
  }

  #assertOpen(): void {
    if (this.#closed) throw closedError('member')
  }
}

/** A term with its claim. */
interface Tenure {
  readonly term: Term
  readonly claim: Claim
  /** Set while it steps down. */
  steppingDown: Promise<void> | undefined
}

/** The grace is over. */
const LATE = Symbol('late')
