/**
 * A bridge: chosen topics and services of this bus appear on other buses, and theirs on this one, through NATS. One process at a time
 * holds the claim of the bus and bridges it; others stand by. Users hold this object; a time in which it bridges is in term.ts.
 */
import type { Bus, Claim } from '../index.js'
import { debug } from '../diagnostics.js'
import { asRingbellError, isRingbellError, type RingbellError } from '../errors.js'
import { membersOf, shown, type ShownOptions } from '../shown.js'
import { Emitter } from '../wait/emitter.js'
import { EventQueue } from '../wait/event-queue.js'
import { pauseAfter } from '../wait/backoff.js'
import { type BridgeCounters, newCounters } from './counters.js'
import { loadNats } from './nats.js'
import { type BridgeOptions, type BridgePolicy, policyOf } from './options.js'
import { Term } from './term.js'

/** The name that the bridge of a bus claims. */
export const BRIDGE_CLAIM = 'ringbell.bridge'

/** The events of a bridge. There are none after `close()`. */
export interface BridgeEvents {
  /** It holds the claim of the bus and is connected to NATS. */
  active: []
  /** The connection to NATS is lost. It is tried again until it is there (`'active'`). */
  disconnected: []
  /** Another bus was found. */
  joined: [peer: BridgePeer]
  /** Another bus is gone, and `why`. What it offered is withdrawn. */
  left: [peer: BridgePeer, why: string]
  /** NATS cannot be used, or something was left out. It goes on, and tries again. */
  failed: [error: RingbellError]
}

/** Another bus. */
export interface BridgePeer {
  /** It, for as long as this run of its bridge lasts. Records have it as `origin.bus`. */
  readonly bus: string
  /** The host name of its machine. */
  readonly host: string
}

/** What a bridge does. */
export interface BridgeStats extends BridgeCounters {
  /** Instances of this bus that others see. */
  exported: number
  /** Instances of other buses that are seen here. */
  imported: number
  /** The other buses, and how many instances of each are seen here. */
  peers: (BridgePeer & { readonly instances: number })[]
}

/** `'standby'`: another process bridges this bus. `'connecting'`: it holds the claim, and NATS cannot be reached. */
export type BridgeState = 'standby' | 'connecting' | 'active' | 'closed'

const RETRY = { delay: 250, maxDelay: 5000 }

/** Bridges a bus to others through NATS; `Bridge.open()` makes it. */
export class Bridge extends Emitter<BridgeEvents> implements AsyncDisposable {
  readonly #bus: Bus
  readonly #options: BridgeOptions
  readonly #policy: BridgePolicy
  readonly #counters = newCounters()
  readonly #events = new EventQueue<BridgeEvents>(this, 'bridge', {})
  readonly #end = new AbortController()
  #state: BridgeState = 'standby'
  #term: Term | undefined
  #life: Promise<void> | undefined

  /**
   * Begins to bridge. Resolves when it is connected to NATS, or stands by because another process bridges this bus. What fails later is
   * told by `'failed'`, and tried again.
   *
   * Rejects with `ERR_RINGBELL_INVALID_OPTION`, `ERR_RINGBELL_MISSING_PACKAGE`, and with `ERR_RINGBELL_NATS` if the
   * first try to connect has failed.
   */
  static async open(bus: Bus, options: BridgeOptions): Promise<Bridge> {
    const policy = policyOf(options)
    await loadNats()
    const bridge = new Bridge(bus, options, policy)
    await bridge.#begin()
    return bridge
  }

  private constructor(bus: Bus, options: BridgeOptions, policy: BridgePolicy) {
    super()
    this.#bus = bus
    this.#options = { ...options }
    this.#policy = policy
  }

  /** What it is doing. */
  get state(): BridgeState {
    return this.#state
  }

  /** The address of the NATS server that it is connected to, or was last. */
  get server(): string | undefined {
    return this.#term?.server
  }

  /** Counters. */
  stats(): BridgeStats {
    const { exported = 0, imported = 0, peers = [] } = this.#term ?? {}
    return { exported, imported, peers, ...this.#counters }
  }

  /** Withdraws what it has announced, tells the others, and gives the claim back. Idempotent. */
  async close(): Promise<void> {
    this.#state = 'closed'
    this.#events.clear()
    this.#end.abort()
    await this.#life
  }

  /** `await using`: as `close()`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  /** What `console.log` shows. */
  [Symbol.for('nodejs.util.inspect.custom')](depth: number | null, options: ShownOptions): string {
    return shown('Bridge', membersOf(this, 'state', 'server'), depth, options)
  }

  async #begin(): Promise<void> {
    const claim = await this.#bus.claim(BRIDGE_CLAIM, { ifAvailable: true })
    if (claim === undefined) {
      this.#life = this.#live(undefined, undefined)
      return
    }
    try {
      this.#life = this.#live(claim, await this.#connect())
    } catch (error) {
      await claim.release()
      throw error
    }
  }

  /** Until it is closed: stands by for the claim, and bridges while it has it. Never rejects. */
  async #live(held: Claim | undefined, first: Term | undefined): Promise<void> {
    const { signal } = this.#end
    let [claim, term, failures] = [held, first, 0]
    while (!signal.aborted) {
      try {
        if (claim?.held !== true) this.#become('standby')
        claim = claim?.held === true ? claim : await this.#bus.claim(BRIDGE_CLAIM, { signal })
        term ??= await this.#connect()
        failures = 0
        const why = await this.#until(claim, term)
        if (why !== undefined) throw why
      } catch (error) {
        if (signal.aborted) break
        this.#failed(error)
        // Without its bus there is nothing to bridge.
        if (this.#bus.closed) break
        await this.#pause(pauseAfter(++failures, RETRY))
      } finally {
        await this.#endTerm(term)
        term = undefined
      }
    }
    this.#state = 'closed'
    await claim?.release()
  }

  async #connect(): Promise<Term> {
    this.#become('connecting')
    const term = await Term.begin(this.#bus, this.#options, this.#policy, this.#counters, {
      joined: ({ bus, host }) => this.#tell('joined', { bus, host }),
      left: ({ bus, host }, why) => this.#tell('left', { bus, host }, why),
      disconnected: () => {
        this.#become('connecting')
        this.#tell('disconnected')
      },
      reconnected: () => this.#active(),
      failed: (error) => this.#failed(error),
    })
    this.#term = term
    this.#active()
    return term
  }

  /** Waits for the end of a term, and says what has ended it; `undefined`: `close()`. */
  async #until(claim: Claim, term: Term): Promise<RingbellError | undefined> {
    const { signal } = this.#end
    if (signal.aborted) return undefined
    const closed = new Promise<undefined>((resolve) => signal.addEventListener('abort', () => resolve(undefined)))
    return Promise.race([closed, claim.lost, term.ended()])
  }

  async #endTerm(term: Term | undefined): Promise<void> {
    this.#term = undefined
    try {
      await term?.close()
    } catch (error) {
      debug('ending a bridge: %s', error)
    }
  }

  #active(): void {
    this.#become('active')
    this.#tell('active')
  }

  #become(state: BridgeState): void {
    if (this.#state !== 'closed') this.#state = state
  }

  #failed(error: unknown): void {
    this.#tell('failed', isRingbellError(error) ? error : asRingbellError(error, 'bridge'))
  }

  #tell<N extends keyof BridgeEvents>(name: N, ...details: BridgeEvents[N]): void {
    if (this.#state !== 'closed') this.#events.add(name, ...details)
  }

  async #pause(milliseconds: number): Promise<void> {
    const { signal } = this.#end
    if (signal.aborted) return
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, milliseconds)
      signal.addEventListener('abort', () => {
        clearTimeout(timer)
        resolve()
      })
    })
  }
}
