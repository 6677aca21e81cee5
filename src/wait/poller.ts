/**
 * The poller of a JavaScript environment; there is one. Each endpoint is added once, and its `wake` is called when the kernel reports
 * an event for it. `wake` may also be called without a reason. The poller keeps the process alive only while it is held. On Node it is one
 * epoll under one `uv_poll` of the binding; elsewhere a timer polls that epoll (ticker.ts).
 */
import { binding, type NativeEndpoint } from '../native.js'
import { Ticker } from './ticker.js'

/** Who is told. */
export interface Wakeable {
  wake(): void
}

/** Keeps the process alive, or not. */
interface Loop {
  ref(): void
  unref(): void
  /** Somebody has begun to wait: a loop that looks by itself looks more often from now on. */
  hurry?(): void
}

/** Ids that one call of the binding can report; what does not fit comes with the next. */
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
  /** Nobody held it any more: whether that is still so is looked at in a promise job. */
  #loosening = false

  /** @throws {RingbellError} `ERR_RINGBELL_RESOURCE`; what loading the binding throws. */
  constructor(onLoop: boolean) {
    const { NativePoller } = binding()
    this.#native = new NativePoller((count) => this.#dispatch(count), this.#ready, onLoop)
    this.#loop = this.#native.supported ? this.#native : new Ticker(() => this.#look())
  }

  /** Returns the id to remove it by. */
  add(endpoint: NativeEndpoint, target: Wakeable): number {
    const id = this.#native.add(endpoint)
    this.#targets.set(id, target)
    return id
  }

  remove(id: number): void {
    if (this.#targets.delete(id)) this.#native.remove(id)
  }

  /** Keeps the process alive until as many calls of `drop`. */
  hold(): void {
    this.hurry()
    if (this.#held++ === 0 && !this.#loosening) this.#loop.ref()
  }

  /** A wait begins, whether it keeps the process alive or not. */
  hurry(): void {
    this.#loop.hurry?.()
  }

  /** Most who let go wait again in the same turn: the loop need not hear of that. */
  drop(): void {
    if (--this.#held > 0 || this.#loosening) return
    this.#loosening = true
    void RESOLVED.then(this.#loosen)
  }

  /** For a loop that looks by itself. Where something came, more is likely to come. */
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
    // The ids are copied first: `wake` runs the code of users, who may bring the poller back here.
    for (const id of this.#ready.slice(0, count)) wakeSafely(this.#targets.get(id))
  }
}

/** One user's exception must not cost the others their wake-up: it becomes an uncaught one. */
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

/** Whether a timer polls: Bun's and Deno's `uv_*` symbols cannot be used; Bun's even abort. */
export function polls(): boolean {
  return (
    process.versions['bun'] !== undefined ||
    process.versions['deno'] !== undefined ||
    process.env['RINGBELL_POLLER'] === 'timer'
  )
}
