/**
 * The rounds in which a manager asks its instances how they are: the heartbeat of members, and the user's own check. The only
 * timer of an idle manager is this one, and only if it was asked for.
 */
import { asRingbellError, RingbellError } from '../errors.js'
import type { GroupInstance, HealthCheck } from './group-options.js'
import type { Instance } from './instance.js'
import type { MemberCalls } from './member-calls.js'

/** Failures of the user's own check in a row. */
const MOST_FAILURES = 2

/** What the rounds need of a group. */
export interface ChecksHost {
  readonly calls: MemberCalls
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
  readonly #timeout: number
  readonly #timer: NodeJS.Timeout
  /** Those that have not answered yet. */
  readonly #asked = new Set<Instance>()
  readonly #failures = new WeakMap<Instance, number>()
  readonly #abort = new AbortController()

  constructor(host: ChecksHost, interval: number, timeout: number) {
    this.#host = host
    this.#timeout = timeout
    this.#timer = setInterval(() => this.#round(), interval)
  }

  close(): void {
    clearInterval(this.#timer)
    this.#abort.abort()
  }

  #round(): void {
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

  /** Its connection may have failed although it lives; only one that does not answer is stalled. */
  async #beat(instance: Instance): Promise<void> {
    const { member, process } = instance
    if (member === undefined) return
    let age = 0
    try {
      age = (await this.#host.calls.call(member, 'beat', this.#timeout)).beatAge
    } catch (error) {
      if ((error as { code?: unknown }).code !== 'ERR_RINGBELL_TIMEOUT') return
      throw new RingbellError(
        'ERR_RINGBELL_TIMEOUT',
        `Process ${process.pid} has not answered for ${this.#timeout} ms.`,
        {
          cause: error,
        },
      )
    }
    if (age > this.#timeout)
      throw new RingbellError(
        'ERR_RINGBELL_TIMEOUT',
        `The work of process ${process.pid} has not beaten for ${Math.round(age)} ms.`,
      )
  }

  async #check(instance: Instance): Promise<void> {
    const { health } = this.#host
    if (health === undefined) return
    const signal = AbortSignal.any([this.#abort.signal, AbortSignal.timeout(this.#timeout)])
    try {
      const given = new Promise<never>((_, reject) =>
        signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true }),
      )
      const check =
        health === 'connect' ? this.#host.reach(instance, this.#timeout) : health(this.#host.snapshot(instance), signal)
      const well = await Promise.race([check, given])
      if (well === false)
        throw new RingbellError('ERR_RINGBELL_TIMEOUT', `Process ${instance.process.pid} is not well.`)
    } catch (error) {
      const failures = (this.#failures.get(instance) ?? 0) + 1
      this.#failures.set(instance, failures)
      if (failures >= MOST_FAILURES) throw error
      return
    }
    this.#failures.delete(instance)
  }
}
