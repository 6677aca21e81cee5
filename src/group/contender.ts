/**
 * Asks for the claim of a group, again after each term, until it is told to stop. After a step-down it lets the other members have the
 * claim first. What a member does with the claim is not decided here.
 */
import type { Claim } from '../bus/claim.js'
import type { ClaimState } from '../bus/claims.js'
import type { AsyncIteration } from '../wait/async-iteration.js'
import { pauseAfter } from '../wait/backoff.js'
import { waitFor } from '../wait/waiting.js'
import { RETRY } from './records.js'

/** What it needs of a member. */
export interface ContenderHost {
  claim(signal: AbortSignal): Promise<Claim>
  /** Follows the group's claim. */
  watch(signal: AbortSignal): AsyncIteration<ClaimState>
  /** Whether the group has other members that contend. */
  contested(): boolean
  /** Serves one term. Resolves when that has ended and the claim was given back. */
  serve(claim: Claim): Promise<void>
  /** The claim could not be had. It tries again. */
  failed(error: unknown): void
}

/** After a step-down, milliseconds in which the other members can have the claim before this one asks for it again. */
const YIELD = 1000

export class Contender {
  readonly #host: ContenderHost
  readonly #stop = new AbortController()

  constructor(host: ContenderHost) {
    this.#host = host
  }

  get stopped(): boolean {
    return this.#stop.signal.aborted
  }

  /** It asks for the claim no more. A term that runs goes on. */
  stop(): void {
    this.#stop.abort()
  }

  /** Ends when it was stopped, and its term is over. */
  async run(): Promise<void> {
    const { signal } = this.#stop
    for (let failures = 0; !signal.aborted;) {
      try {
        const claim = await this.#host.claim(signal)
        if (this.stopped) {
          await claim.release()
          return
        }
        failures = 0
        await this.#host.serve(claim)
        if (!this.stopped) await this.#yield(claim.epoch)
      } catch (error) {
        if (this.stopped) return
        this.#host.failed(error)
        await elapsed(pauseAfter(++failures, RETRY), signal)
      }
    }
  }

  /** Lets another member have the claim, if there is one that can. It hears of that; the time is for members that cannot take it. */
  async #yield(epoch: number): Promise<void> {
    if (!this.#host.contested()) return
    const signal = AbortSignal.any([this.#stop.signal, AbortSignal.timeout(YIELD)])
    try {
      for await (const state of this.#host.watch(signal)) if (state.epoch > epoch) return
    } catch (error) {
      if (!signal.aborted) throw error
    }
  }
}

function elapsed(milliseconds: number, signal: AbortSignal): Promise<void> {
  return waitFor(
    (waiting) => {
      const timer = setTimeout(() => waiting.resolve(), milliseconds)
      return () => clearTimeout(timer)
    },
    { signal },
  ).catch(() => {
    // It leaves.
  })
}
