/**
 * The rounds in which a manager asks its instances how they are: the heartbeat of members, and the user's own check. The only
 * timer of an idle manager is this one, and only if it was asked for.
 */
import { asRingbellError, RingbellError } from '../errors.js'
import type { GroupInstance, HealthCheck } from './group-options.js'
import type { Instance } from './instance.js'
import type { MemberCalls } from './member-calls.js'
import { waitFor } from '../wait/waiting.js'

/** Failures of the user's own check in a row. */
const MOST_FAILURES = 2

/** What the rounds need of a group. */
export interface ChecksHost {
  readonly calls: Pick<MemberCalls, 'call'>
  readonly health: HealthCheck | 'connect' | undefined
  /** The connect test. */
  reach(instance: Instance, timeout: number): Promise<void>
  /** Those that are to be asked. */
  instances(): Iterable<Instance>
  snapshot(instance: Instance): GroupInstance
  stalled(instance: Instance, reason: RingbellError): void
}

export class Checks {
  readonly #host: ChecksHost
  readonly #interval: number
  readonly #timeout: number
  readonly #timer: NodeJS.Timeout
  /** Those that have not answered yet. */
  readonly #asked = new Set<Instance>()
  readonly #failures = new WeakMap<Instance, number>()
  readonly #abort = new AbortController()
  /** When the next round is due. */
  #due: number
  /** When this process ran again after a gap. Its instances may have stood still with it, as in a container that was frozen. */
  #resumed = 0

  constructor(host: ChecksHost, interval: number, timeout: number) {
    this.#host = host
    this.#interval = interval
    this.#timeout = timeout
    this.#due = performance.now() + interval
    this.#timer = setInterval(() => this.#round(), interval)
  }

  close(): void {
    clearInterval(this.#timer)
    this.#abort.abort()
  }

  #round(): void {
    this.#notice(this.#due)
    this.#due = performance.now() + this.#interval
    for (const instance of this.#host.instances()) {
      if (this.#asked.has(instance)) continue
      this.#asked.add(instance)
      void this.#ask(instance).finally(() => this.#asked.delete(instance))
    }
  }

  async #ask(instance: Instance): Promise<void> {
    try {
      await this.#beat(instance)
      await this.#check(instance)
    } catch (error) {
      if (this.#abort.signal.aborted || instance.process.status.exited) return
      this.#host.stalled(instance, asRingbellError(error, 'instance'))
    }
  }

  /**
   * Only one that was asked and does not answer is stalled. If the question was never sent, the fault is with the connection, or with this
   * process, which may have no descriptor left.
   */
  async #beat(instance: Instance): Promise<void> {
    const { member, process } = instance
    if (member === undefined) return
    const began = performance.now()
    let age = 0
    try {
      age = (await this.#host.calls.call(member, 'beat', this.#timeout)).beatAge
    } catch (error) {
      if (!wasAsked(error) || this.#stoodStill(began)) return
      throw new RingbellError(
        'ERR_RINGBELL_TIMEOUT',
        `Process ${process.pid} has not answered for ${this.#timeout} ms.`,
        {
          cause: error,
        },
      )
    }
    if (age > this.#timeout && !this.#stoodStill(performance.now() - this.#timeout))
      throw new RingbellError(
        'ERR_RINGBELL_TIMEOUT',
        `The work of process ${process.pid} has not beaten for ${Math.round(age)} ms.`,
      )
  }

  async #check(instance: Instance): Promise<void> {
    const { health } = this.#host
    if (health === undefined) return
    const { pid } = instance.process
    const began = performance.now()
    const over = new AbortController()
    const late = (): RingbellError =>
      new RingbellError('ERR_RINGBELL_TIMEOUT', `The check of process ${pid} took more than ${this.#timeout} ms.`)
    try {
      const well = await waitFor<boolean | void>(
        (waiting) => {
          this.#answer(health, instance, over.signal).then(
            (answer) => waiting.resolve(answer),
            (error) => waiting.reject(error),
          )
          return () => over.abort()
        },
        { signal: this.#abort.signal, timeout: this.#timeout, late },
      )
      if (well === false) throw new RingbellError('ERR_RINGBELL_TIMEOUT', `Process ${pid} is not well.`)
    } catch (error) {
      if (this.#stoodStill(began)) return
      const failures = (this.#failures.get(instance) ?? 0) + 1
      this.#failures.set(instance, failures)
      if (failures >= MOST_FAILURES) throw error
      return
    }
    this.#failures.delete(instance)
  }

  /** It rejects with what a check throws. */
  async #answer(health: HealthCheck | 'connect', instance: Instance, signal: AbortSignal): Promise<boolean | void> {
    if (health === 'connect') return this.#host.reach(instance, this.#timeout)
    return health(this.#host.snapshot(instance), signal)
  }

  /** Whether there was a gap since a question was asked, which should have been answered by now. */
  #stoodStill(since: number): boolean {
    this.#notice(Math.min(this.#due, since + this.#timeout))
    return this.#resumed > since
  }

  /** Something comes now that was due then. If it is so late that an instance had less than half of its time, that was a gap. */
  #notice(due: number): void {
    const now = performance.now()
    if (now - due > this.#timeout / 2) this.#resumed = now
  }
}

/** Whether a question may have arrived that was not answered in time. */
function wasAsked(error: unknown): boolean {
  const { code, cause } = error as { code?: unknown; cause?: { code?: unknown } | undefined }
  return code === 'ERR_RINGBELL_TIMEOUT' && cause?.code === 'ERR_RINGBELL_OUTCOME_UNKNOWN'
}
