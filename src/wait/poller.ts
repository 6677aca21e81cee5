/**
 * The poller of a JavaScript environment. Each environment has one. Each endpoint is added once, and its `wake` is
 * called when the kernel reports an event for it. `wake` may also be called without a reason. The poller keeps the
 * process alive only while it is held. On Node it is one epoll under one `uv_poll` of the binding; elsewhere a timer
 * polls that epoll (ticker.ts).
 */
import { translated } from '../errors.js'
import { binding, type NativeEndpoint } from '../native.js'
import { Ticker } from './ticker.js'

/** Something that the poller can wake. */
export interface Wakeable {
  wake(): void
}

/** Keeps the process alive for the poller: the binding itself, or the ticker. */
interface Loop {
  ref(): void
  unref(): void
  /** A wait has begun. A loop that polls by a timer polls more often from now on. */
  hurry?(): void
}

/** The most ids that one call of the binding reports. Further ids come with the next call. */
const READY_IDS = 256
const RESOLVED = Promise.resolve()

export class Poller {
  readonly #targets = new Map<number, Wakeable>()
  readonly #ready = new Uint32Array(READY_IDS)
  readonly #native
  readonly #loop: Loop
  readonly #loosen = (): void => {
    this.#loosening = false
    if (this.#held === 0) this.#loop.unref()
  }
  #held = 0
  /** The last hold was dropped. A promise job checks whether that is still so. */
  #loosening = false

  /** @throws {RingbellError} `ERR_RINGBELL_RESOURCE`; what loading the binding throws. */
  constructor(onLoop: boolean) {
    const { NativePoller } = binding()
    this.#native = new NativePoller((count) => this.#dispatch(count), this.#ready, onLoop)
    this.#loop = this.#native.supported ? this.#native : new Ticker(() => this.#look())
  }

  /**
   * Returns the id to remove it by.
   *
   * @throws {RingbellError}
   */
  add(endpoint: NativeEndpoint, target: Wakeable): number {
    const id = translated(() => this.#native.add(endpoint))
    this.#targets.set(id, target)
    return id
  }

  /** @throws {RingbellError} */
  remove(id: number): void {
    if (this.#targets.delete(id)) translated(() => this.#native.remove(id))
  }

  /** Keeps the process alive until `drop` was called as often. */
  hold(): void {
    this.hurry()
    if (this.#held++ === 0 && !this.#loosening) this.#loop.ref()
  }

  /** A wait begins, whether it keeps the process alive or not. */
  hurry(): void {
    this.#loop.hurry?.()
  }

  /** Undoes one `hold`. The loop is released later, in a promise job, because most endpoints wait again in the same turn. */
  drop(): void {
    if (--this.#held > 0 || this.#loosening) return
    this.#loosening = true
    void RESOLVED.then(this.#loosen)
  }

  /** Polls now if the loop is a timer, because that timer may be late as well. A real event loop polls in each iteration. */
  pollNow(): void {
    if (this.#loop !== this.#native) this.#look()
  }

  /** Polls, for a loop that is a timer. If something came, the timer polls more often, because more is likely to come. */
  #look(): void {
    const count = this.#native.poll()
    if (count > 0) this.hurry()
    this.#dispatch(count)
  }

  #dispatch(count: number): void {
    if (count === 1) {
      this.#targets.get(this.#ready[0] as number)?.wake()
      return
    }
    // The ids are copied first: `wake` runs user code, which may call the poller again.
    for (const id of this.#ready.slice(0, count)) wakeSafely(this.#targets.get(id))
  }
}

/** An exception of one endpoint must not cost the others their wake-up, so it becomes an uncaught exception. */
function wakeSafely(target: Wakeable | undefined): void {
  try {
    target?.wake()
  } catch (error) {
    process.nextTick(() => {
      throw error
    })
  }
}

let shared: Poller | undefined

/** The poller of this environment (each worker thread has its own). */
export function poller(): Poller {
  return (shared ??= new Poller(!polls()))
}

/** Wakes the endpoints that were rung, if no event loop does so. */
export function pollNow(): void {
  shared?.pollNow()
}

/** Whether a timer polls: Bun's and Deno's `uv_*` symbols cannot be used; Bun's even abort. */
export function polls(): boolean {
  return (
    process.versions['bun'] !== undefined ||
    process.versions['deno'] !== undefined ||
    process.env['RINGBELL_POLLER'] === 'timer'
  )
}
