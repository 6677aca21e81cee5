/** Who holds which claim of a bus: a look, and a watch. `bus.claims` is one. */
import { check, type Rules, signal } from '../check.js'
import { closedAfter, inSteps } from '../closing.js'
import { closedError, translated } from '../errors.js'
import type { NativeBus, NativeClaimWatch } from '../native.js'
import { type SignalOptions, throwIfAborted } from '../wait/abort.js'
import type { AsyncIteration } from '../wait/async-iteration.js'
import { checkText } from './names.js'
import { type News, Watching } from './watching.js'

/** A process that holds a claim. */
export interface ClaimHolder {
  /** 128 random bits in hex, new for each claim. */
  readonly id: string
  /** The process, as its own pid namespace numbers it. */
  readonly pid: number
  /** Its user. */
  readonly uid: number
}

/** The state of a name, as of the last look. */
export interface ClaimState {
  /** The epoch of the holder, or of the last one. 0: there was none. */
  readonly epoch: number
  /** `undefined`: the name is free. */
  readonly holder: ClaimHolder | undefined
}

interface RawState {
  epoch: number
  holder: ClaimHolder | null
}

const WATCH: Rules = { signal }

/** The claims of a bus; `bus.claims` is one. */
export class Claims {
  readonly #native: NativeBus
  readonly #watches = new Set<Watching<ClaimState>>()
  #closed = false

  /** @internal Use `bus.claims`. */
  constructor(native: NativeBus) {
    this.#native = native
  }

  /**
   * Who holds the name now.
   *
   * @throws {RingbellError} `ERR_RINGBELL_INVALID_NAME`, `ERR_RINGBELL_BUS_DIRECTORY` (the name's file is none that can be
   * used), `ERR_RINGBELL_NO_PERMISSION`, `ERR_RINGBELL_CLOSED`.
   */
  query(name: string): ClaimState {
    this.#assertOpen()
    checkText(name)
    return claimState(JSON.parse(translated(() => this.#native.claimState(name))) as RawState)
  }

  /**
   * Iterates over the state of the name: first as it is now, then after each change, always the newest. It ends by
   * `break`, by the signal (it rejects with an `AbortError`), or by `bus.close()`. Rejects as `query` throws.
   */
  watch(name: string, options: SignalOptions = {}): AsyncIteration<ClaimState> {
    check(options, WATCH)
    throwIfAborted(options.signal)
    this.#assertOpen()
    checkText(name)
    const native = translated(() => this.#native.watchClaim(name))
    try {
      const watch = new Watching(
        native,
        () => newsOf(native),
        options.signal,
        (ended) => this.#watches.delete(ended),
      )
      this.#watches.add(watch)
      return watch
    } catch (error) {
      throw closedAfter(error, native)
    }
  }

  /** @internal */
  close(): void {
    if (this.#closed) return
    this.#closed = true
    inSteps(...[...this.#watches].map((watch) => () => watch.close()))
  }

  #assertOpen(): void {
    if (this.#closed) throw closedError('bus')
  }
}

function newsOf(native: NativeClaimWatch): News<ClaimState> {
  const json = native.take()
  const events = json === '' ? [] : (JSON.parse(json) as RawState[]).map(claimState)
  return { events, unreadable: undefined }
}

function claimState({ epoch, holder }: RawState): ClaimState {
  return { epoch, holder: holder ?? undefined }
}
