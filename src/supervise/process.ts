/**
 * One process that this one has started, or that announced itself: whether that very process lives, signals, its end.
 *
 * Node's own child handling starts and reaps. Signals go through a pidfd, so they never reach a process that got the same
 * pid. Without pidfds (`signals` says so) a child is signalled as Node does it, which is safe until Node has waited for it.
 * Another process cannot be held without one.
 */
import { type ChildProcess } from 'node:child_process'
import { constants } from 'node:os'
import type { Readable, Writable } from 'node:stream'
import type { Service } from '../bus/service.js'
import { check, duration, integer, LONGEST_MS, type Rules, signal as signalRule } from '../check.js'
import { closedAfter, failureOf, inSteps } from '../closing.js'
import { reason, RingbellError, translated } from '../errors.js'
import { invalid } from '../invalid.js'
import { binding, type NativeProcess } from '../native.js'
import { membersOf, shown, type ShownOptions } from '../shown.js'
import { type SignalOptions, throwIfAborted } from '../wait/abort.js'
import { poller } from '../wait/poller.js'
import { waitFor } from '../wait/waiting.js'
import { exitedError, type ExitStatus, RUNNING } from './exit.js'
import type { LineReader } from './stdio.js'
import type { Tie } from './tie.js'

const WAIT: Rules = { signal: signalRule }
const TIME = duration(0, LONGEST_MS, 'milliseconds')
const NUMBER = integer(1, 64)
const GRACE = 3000
/** How long the end of its output may take after the end of the process; a grandchild may have it, too. */
const LAST_WORDS = 200

/** @internal What a handle is made of. */
export interface ProcessParts {
  readonly pid: number
  readonly command: string
  readonly native: NativeProcess
  /** `undefined`: it is not a child of this process. */
  readonly child: ChildProcess | undefined
  readonly tie: Tie | undefined
  /** What reads its output line by line, if this process does. */
  readonly output: { readonly stdout?: LineReader | undefined; readonly stderr?: LineReader | undefined }
}

/** A process. `spawn` and `openProcess` make it. */
export class ProcessHandle {
  /** Its number. */
  readonly pid: number
  /** What was started; of another process its number. */
  readonly command: string
  /** How signals reach it: `'pidfd'`: that very process; `'child'`: this machine has no pidfds, and Node signals its child. */
  readonly signals: 'pidfd' | 'child'
  /** Resolves when it has ended; never rejects. */
  readonly exited: Promise<ExitStatus>
  readonly #child: ChildProcess | undefined
  readonly #native: NativeProcess
  readonly #tie: Tie | undefined
  readonly #stderr: LineReader | undefined
  /** Resolves when all of its output was told. */
  readonly #outputEnded: Promise<unknown>
  #status: ExitStatus = RUNNING
  #end: (status: ExitStatus) => void = () => {}
  /** In the poller, if this process is not its parent. */
  #watched: number | undefined
  #referenced = true

  /** @internal Use `spawn` or `openProcess`. */
  constructor({ pid, command, native, child, tie, output }: ProcessParts) {
    this.pid = pid
    this.command = command
    this.signals = native.hasPidfd ? 'pidfd' : 'child'
    this.exited = new Promise((resolve) => (this.#end = resolve))
    this.#child = child
    this.#native = native
    this.#tie = tie
    this.#stderr = output.stderr
    const readers = [output.stdout, output.stderr].filter((reader) => reader !== undefined)
    this.#outputEnded = this.exited.then(() => Promise.all(readers.map((reader) => reader.finish(LAST_WORDS))))
    if (child === undefined) {
      this.#watched = poller().add(native, { wake: () => this.#look() })
      poller().hold()
    } else child.once('exit', (exitCode, signal) => this.#ended({ exited: true, exitCode, signal }))
  }

  /** Its stdin, if that is a pipe. */
  get stdin(): Writable | null {
    return this.#child?.stdin ?? null
  }

  /** Its stdout, if that is a pipe. */
  get stdout(): Readable | null {
    return this.#child?.stdout ?? null
  }

  /** Its stderr, if that is a pipe. */
  get stderr(): Readable | null {
    return this.#child?.stderr ?? null
  }

  /** How it ended, as far as this process has heard. */
  get status(): ExitStatus {
    return this.#status
  }

  /** Whether that very process is alive. A zombie is not, a stopped process is. */
  isAlive(): boolean {
    return !this.#status.exited && translated(() => this.#native.isAlive())
  }

  /**
   * Sends a signal by its name. `false`: it has ended.
   *
   * @throws {RingbellError} `ERR_RINGBELL_INVALID_OPTION`, `ERR_RINGBELL_NO_PERMISSION`.
   */
  signal(name: NodeJS.Signals): boolean {
    const number: number | undefined = constants.signals[name]
    if (NUMBER(number) !== undefined) throw invalid('signal', name, 'must be the name of a signal, such as SIGTERM')
    if (this.#status.exited) return false
    if (this.signals === 'pidfd') return translated(() => this.#native.signal(number))
    // A zombie would take it.
    return this.isAlive() && (this.#child?.kill(name) ?? false)
  }

  /** Asks it to end, by SIGTERM. `false`: it has ended. */
  requestShutdown(): boolean {
    return this.signal('SIGTERM')
  }

  /** Kills it by SIGKILL; one that is tied as a tree, with all that it has started. `false`: it has ended. */
  forceKill(): boolean {
    this.#tie?.cut()
    return this.signal('SIGKILL')
  }

  /**
   * Resolves when it has ended, or with `exited: false` after so many milliseconds. Rejects with an `AbortError`.
   */
  async waitForExit(timeout?: number, options: SignalOptions = {}): Promise<ExitStatus> {
    checkTime('timeout', timeout)
    check(options, WAIT)
    const { signal } = options
    throwIfAborted(signal)
    if (this.#status.exited) return this.#status
    const late = Symbol('late')
    try {
      return await waitFor<ExitStatus>(
        (waiting) => {
          void this.exited.then((status) => waiting.resolve(status))
          return () => {}
        },
        { signal, timeout, late: () => late },
      )
    } catch (error) {
      if (error === late) return this.#status
      throw error
    }
  }

  /**
   * Asks it to end, and kills it if it has not ended after `grace` milliseconds, 3,000 by default. `exited: false`: not
   * even that has ended it within the same time (the kernel is busy with it).
   */
  async shutdown(grace = GRACE): Promise<ExitStatus> {
    checkTime('grace', grace)
    if (!this.requestShutdown()) return this.waitForExit(GRACE)
    const status = await this.waitForExit(grace)
    if (status.exited) return status
    this.forceKill()
    return this.waitForExit(Math.max(grace, GRACE))
  }

  /** Keeps this process alive until it has ended (the default). */
  ref(): this {
    if (!this.#referenced && this.#watched !== undefined) poller().hold()
    this.#referenced = true
    this.#child?.ref()
    return this
  }

  /** Does not keep this process alive. */
  unref(): this {
    if (this.#referenced && this.#watched !== undefined) poller().drop()
    this.#referenced = false
    this.#child?.unref()
    return this
  }

  /**
   * Lets a process go that is not a child of this one: it is not watched any more, and nothing happens to it. A child is watched until
   * it ends.
   */
  close(): void {
    if (this.#child === undefined && !this.#status.exited) this.#letGo()
  }

  /** What `console.log` shows. */
  [Symbol.for('nodejs.util.inspect.custom')](depth: number | null, options: ShownOptions): string {
    return shown('ProcessHandle', membersOf(this, 'pid', 'command', 'signals', 'status'), depth, options)
  }

  /** @internal Whether that very process announced this instance. */
  announced({ record }: Service): boolean {
    return !this.#status.exited && translated(() => this.#native.announced(JSON.stringify(record)))
  }

  /** @internal When it has ended and all of its output was told: the last lines of stderr, if they were read here. */
  async lastWords(): Promise<readonly string[]> {
    await this.#outputEnded
    return this.#stderr?.last ?? []
  }

  /** @internal The error of its end, for those who wait until it has announced a service. */
  async endedUnannounced(service: string): Promise<RingbellError> {
    const status = await this.exited
    const what = `'${this.command}' (process ${this.pid}) did not announce '${service}': it`
    return exitedError(what, status, await this.lastWords())
  }

  #look(): void {
    if (!this.#status.exited && !this.#native.isAlive()) this.#ended({ exited: true, exitCode: null, signal: null })
  }

  #ended(status: ExitStatus): void {
    this.#status = Object.freeze(status)
    this.#tie?.end()
    const failure = failureOf(() => this.#letGo())
    // There is no call that could be rejected.
    if (failure !== undefined) {
      const told = `Process ${this.pid} has ended, and could not be let go: ${reason(failure)}`
      process.emitWarning(told, { type: 'RingbellWarning', code: 'RINGBELL_FAILED' })
    }
    this.#end(this.#status)
  }

  #letGo(): void {
    const watched = this.#watched
    this.#watched = undefined
    inSteps(
      () => {
        if (watched !== undefined) poller().remove(watched)
      },
      () => {
        if (watched !== undefined && this.#referenced) poller().drop()
      },
      () => this.#native.close(),
    )
  }
}

/**
 * A process that announced itself on a bus, as a handle: signals for it, and its end. It may be anybody's child; its exit
 * code goes to its parent alone.
 *
 * @throws {RingbellError} `ERR_RINGBELL_PEER_GONE` (it has ended, or has another pid namespace),
 * `ERR_RINGBELL_UNSUPPORTED_PLATFORM` without pidfds, `ERR_RINGBELL_RESOURCE`.
 */
export function openProcess(service: Service): ProcessHandle {
  const native = translated(() => binding().NativeProcess.of(JSON.stringify(service.record)))
  try {
    if (!translated(() => native.hasPidfd))
      throw new RingbellError(
        'ERR_RINGBELL_UNSUPPORTED_PLATFORM',
        'A process that is not a child cannot be held here: pidfds need Linux 5.3, and a filter that permits them.',
      )
    const { pid, name } = service
    const command = `${name} (${pid})`
    return new ProcessHandle({ pid, command, native, child: undefined, tie: undefined, output: {} })
  } catch (error) {
    throw closedAfter(error, native)
  }
}

function checkTime(name: string, value: unknown): void {
  const broken = value === undefined ? undefined : TIME(value)
  if (broken !== undefined) throw invalid(name, value, broken)
}
