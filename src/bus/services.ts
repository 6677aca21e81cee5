/**
 * The services on the bus. The first `find`, `findAll` or `waitFor` begins to follow the bus. From then on answers come
 * from a cached view, without a system call, and the events of the core keep the view current. Until the view has all
 * that a fresh scan finds, answers come from scans: they are correct, only slower.
 */
import { closedAfter, inSteps } from '../closing.js'
import { debug } from '../diagnostics.js'
import { closedError, RingbellError, translated } from '../errors.js'
import type { NativeBus, NativeWatch } from '../native.js'
import { type SignalOptions, throwIfAborted } from '../wait/abort.js'
import type { AsyncIteration } from '../wait/async-iteration.js'
import { poller, type Poller } from '../wait/poller.js'
import { Waiters } from '../wait/waiting.js'
import { kindMismatch } from './kind-mismatch.js'
import { checkName } from './names.js'
import { checkWaitFor, checkWatch } from './options.js'
import { nearestFirst, type RecordJson, type Service, serviceOf } from './service.js'
import { inGroup, NO_NEWS, newsOf, type ServiceEvent, ServicesView } from './services-view.js'
import { Watching } from './watching.js'

/** How long to wait for a service. */
export interface WaitForOptions extends SignalOptions {
  /** Milliseconds; by default without a limit. */
  timeout?: number | undefined
}

/** Which services to watch. */
export interface WatchOptions extends SignalOptions {
  /** A name, or a pattern such as `sensors.*`, in which a `*` stands for any characters; everything by default. */
  filter?: string | undefined
}

/** How long an own record may take until the view has it. */
const SOON_MS = 1000

/** The core's filter for all services. */
const ALL = '*'

/** The services on the bus; `bus.services` is one. */
export class Services {
  readonly #native: NativeBus
  readonly #loop: () => Poller
  readonly #view = new ServicesView()
  readonly #waiters = new Waiters<Service>({ began: () => this.#loop().hold(), ended: () => this.#loop().drop() })
  readonly #watches = new Set<Watching<ServiceEvent>>()
  readonly #followers = new Set<() => void>()
  #watch: NativeWatch | undefined
  #id = -1
  #filled = false
  #closed = false

  /** @internal Use `bus.services`. */
  constructor(native: NativeBus, loop: () => Poller = poller) {
    this.#native = native
    this.#loop = loop
  }

  /** All instances on the bus: from the cached view if there is one, otherwise from a scan. */
  list(): Service[] {
    if (this.#watch === undefined) return this.scan()
    return this.#follow() ?? this.#view.list()
  }

  /**
   * The instance of a service that has been known longest, or `undefined`. One of this bus comes before one that a bridge has announced
   * for another machine. It comes from the cached view, which may not
   * have an instance that was announced a moment ago: `waitFor` waits for it.
   *
   * @throws {RingbellError} `ERR_RINGBELL_INVALID_NAME`, `ERR_RINGBELL_CLOSED`.
   */
  find(name: string): Service | undefined {
    if (this.#filled) {
      const found = this.#view.find(name)
      if (found !== undefined) return found
    }
    checkName(name)
    const scanned = this.#follow()
    return scanned === undefined
      ? this.#view.find(name)
      : nearestFirst(scanned.filter((service) => service.name === name))[0]
  }

  /** @internal The instances of exactly this name. @throws {RingbellError} as `find`. */
  named(name: string): readonly Service[] {
    checkName(name)
    const scanned = this.#follow()
    return scanned === undefined ? this.#view.named(name) : scanned.filter((service) => service.name === name)
  }

  /** @internal What `named` answered still holds while this stays the same. -1: it cannot be told, because there is no view. */
  get version(): number {
    return this.#filled ? this.#view.version : -1
  }

  /** The instances of a group: `audio` has `audio` and `audio.mic`, not `audio2`. */
  findAll(prefix: string): Service[] {
    checkName(prefix)
    const scanned = this.#follow()
    return scanned === undefined
      ? this.#view.findAll(prefix)
      : scanned.filter((service) => inGroup(service.name, prefix))
  }

  /**
   * An instance of a service, as soon as there is one.
   *
   * Rejects with `ERR_RINGBELL_TIMEOUT`, `ERR_RINGBELL_CLOSED`, `ERR_RINGBELL_INVALID_NAME` or an `AbortError`, and with the reason,
   * such as `ERR_RINGBELL_RESOURCE`, when the bus directory cannot be read.
   */
  async waitFor(name: string, options: WaitForOptions = {}): Promise<Service> {
    checkWaitFor(options)
    const { timeout, signal } = options
    throwIfAborted(signal)
    return this.find(name) ?? this.#wait(name, timeout, signal)
  }

  /**
   * Iterates over `added` for every instance that is there, and then over the changes, in order. One watch is one
   * iteration. It ends by `break`, by the signal (it rejects with an `AbortError`), or by `bus.close()`. When the bus directory
   * cannot be read for some time (descriptors ran out, for example), it ends with the reason, such as `ERR_RINGBELL_RESOURCE`:
   * watch again.
   */
  watch(options: WatchOptions = {}): AsyncIteration<ServiceEvent> {
    checkWatch(options)
    throwIfAborted(options.signal)
    this.#assertOpen()
    const native = translated(() => this.#native.watch(options.filter ?? ALL))
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

  /**
   * @internal Calls `changed`, which must not throw, when `list` may have another answer, and when the bus is closed. From now on `list` answers
   * from the cached view. Keeps the process alive until the returned function is called.
   */
  follow(changed: () => void): () => void {
    this.#follow()
    this.#followers.add(changed)
    this.#loop().hold()
    return () => {
      if (this.#followers.delete(changed)) this.#loop().drop()
    }
  }

  /**
   * @internal Which service has this name and another kind, in words; `undefined` for a pattern, or if the bus cannot
   * be read.
   */
  mismatch(name: string, kind: string): string | undefined {
    try {
      return kindMismatch(
        this.list().filter((service) => service.name === name),
        kind,
      )
    } catch (error) {
      // This only adds to the error of a wait that has ended. An error of its own must not replace that one.
      debug('looking for %s: %s', name, error)
      return undefined
    }
  }

  /**
   * @internal Resolves when `find` has an instance that this process has announced. It waits only for a moment, because another process
   * may have removed it.
   */
  async knows({ id, name }: Service): Promise<void> {
    if (this.#watch !== undefined) this.#pump()
    // A scan has it.
    if (!this.#filled) return
    const late = (): RingbellError => lateError(name, SOON_MS)
    const known = this.#waiters.wait(() => this.#view.get(id), { timeout: SOON_MS, late })
    this.#waiters.check()
    // What `find` says next is then an answer of its own, or an error.
    await known.catch((error: unknown) => debug('waiting for %s: %s', name, error))
  }

  /** @internal */
  close(): void {
    if (this.#closed) return
    this.#closed = true
    // The view is not kept current any more.
    this.#filled = false
    this.#waiters.fail(closedError('bus'))
    this.#tellFollowers()
    const watches = [...this.#watches].map((watch) => () => watch.close())
    const own = this.#watch
    // A view that never began is in no loop.
    inSteps(...watches, ...(own === undefined ? [] : [() => this.#loop().remove(this.#id), () => own.close()]))
  }

  #assertOpen(): void {
    if (this.#closed) throw closedError('bus')
  }

  /** @internal As `list`, and always by a scan: what another process announced before this call is there. */
  scan(): Service[] {
    this.#assertOpen()
    const records = JSON.parse(translated(() => this.#native.list())) as RecordJson[]
    return records.map(serviceOf)
  }

  /**
   * Begins to follow the bus if need be. Returns the result of a scan as long as the view cannot answer, otherwise
   * `undefined`.
   */
  #follow(): Service[] | undefined {
    this.#assertOpen()
    if (this.#watch === undefined) this.#begin()
    this.#pump()
    if (this.#filled) return undefined
    const scanned = this.scan()
    this.#pump()
    this.#filled = this.#view.has(scanned)
    return scanned
  }

  #begin(): void {
    const watch = translated(() => this.#native.watch(ALL))
    try {
      this.#id = this.#loop().add(watch, { wake: () => this.#wake() })
    } catch (error) {
      throw closedAfter(error, watch)
    }
    this.#watch = watch
  }

  #wake(): void {
    try {
      this.#pump()
    } catch (error) {
      this.#waiters.fail(error)
      // `list` fails in the same way, and says so.
      this.#tellFollowers()
    }
  }

  /** Applies the events of the core to the view. */
  #pump(): void {
    const watch = this.#watch
    const { events, unreadable } = this.#closed || watch === undefined ? NO_NEWS : translated(() => newsOf(watch))
    if (unreadable !== undefined) {
      // From now on answers come from scans, which succeed or say why not.
      this.#filled = false
      this.#waiters.fail(unreadable)
      this.#tellFollowers()
    }
    if (events.length === 0) return
    for (const event of events) this.#view.apply(event)
    this.#waiters.check()
    this.#tellFollowers()
  }

  #tellFollowers(): void {
    for (const changed of this.#followers) changed()
  }

  #wait(name: string, timeout: number | undefined, signal: AbortSignal | undefined): Promise<Service> {
    const late = (): RingbellError => lateError(name, timeout ?? 0)
    const found = this.#waiters.wait(() => this.#view.find(name), { signal, timeout, late })
    // The service may have come after the scan and before this wait.
    this.#waiters.check()
    return found
  }
}

function lateError(name: string, timeout: number): RingbellError {
  return new RingbellError(
    'ERR_RINGBELL_TIMEOUT',
    `No process announced '${name}' within ${timeout} ms; does it run, and on the same bus and domain?`,
  )
}
