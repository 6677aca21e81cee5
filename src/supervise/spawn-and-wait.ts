/**
 * Starts a process and waits until that very process has announced a service. Another instance of the service does not
 * count, nor does one of another pid namespace. A process that is not ready does not stay.
 */
import type { Bus, Service } from '../index.js'
import { checkName } from '../bus/names.js'
import { anything, check, duration, LONGEST_MS, type Rules, signal } from '../check.js'
import { debug } from '../diagnostics.js'
import { invalid } from '../invalid.js'
import { type SignalOptions, throwIfAborted } from '../wait/abort.js'
import { announcing } from './announcing.js'
import type { ProcessHandle } from './process.js'
import { checkCommandLine, SPAWN, spawn, type SpawnOptions } from './spawn.js'

/** What to start, and what to wait for. */
export interface SpawnAndWaitOptions extends SpawnOptions, SignalOptions {
  /** The name that it announces. */
  service: string
  /** The command, or its path. */
  command: string
  /** Its arguments. */
  args?: readonly string[] | undefined
  /** Milliseconds until it must have announced the name, 5,000 by default. */
  timeout?: number | undefined
}

/** A process that is ready. */
export interface ReadyProcess {
  /** The process. */
  readonly process: ProcessHandle
  /** What it announced. */
  readonly service: Service
}

const OPTIONS: Rules = {
  ...SPAWN,
  service: anything,
  command: anything,
  args: anything,
  timeout: duration(0, LONGEST_MS, 'milliseconds'),
  signal,
}
const TIMEOUT = 5000

/**
 * Starts a process, and resolves when that very process has announced the service.
 *
 * Rejects with `ERR_RINGBELL_EXITED` as soon as it ends (with how), with `ERR_RINGBELL_TIMEOUT` or an `AbortError` (it is killed
 * then), and as `spawn` does. Its stderr goes to that of this process, unless `stdio` says otherwise. The error of its end has the last
 * lines of stderr if they are read here: by default, or by a function. With `'pipe'` or a file you have them yourself.
 */
export async function spawnAndWait(bus: Bus, options: SpawnAndWaitOptions): Promise<ReadyProcess> {
  if (options === undefined) throw invalid('options', options, 'must be given')
  check(options, OPTIONS)
  const { service, command, args = [], timeout = TIMEOUT, signal, ...how } = options
  checkName(service)
  checkCommandLine(command, args, how)
  throwIfAborted(signal)
  // From before the start, so that nothing is missed.
  const watch = bus.services.watch({ filter: service })
  const limits = { timeout, signal, others: () => bus.services.list().filter(({ name }) => name === service) }
  try {
    const stdio = how.stdio ?? { stderr: (line: string) => process.stderr.write(`${line}\n`) }
    const started = await spawn(command, args, { ...how, stdio })
    return { process: started, service: await announcedBy(started, watch, service, limits) }
  } finally {
    await watch.return()
  }
}

type Watch = ReturnType<Bus['services']['watch']>

/** What that very process announced. If it does not, it is killed. */
async function announcedBy(
  started: ProcessHandle,
  watch: Watch,
  name: string,
  limits: Parameters<typeof announcing>[3],
): Promise<Service> {
  try {
    return await announcing<Service>(
      started,
      name,
      (waiting) => {
        const follow = async (): Promise<void> => {
          for await (const { type, service } of watch)
            if (type !== 'removed' && started.announced(service)) return waiting.resolve(service)
        }
        follow().catch((error: unknown) => waiting.reject(error))
        return () => {}
      },
      limits,
    )
  } catch (error) {
    killed(started)
    await started.exited
    throw error
  }
}

function killed(started: ProcessHandle): void {
  try {
    started.forceKill()
  } catch (error) {
    // The reason why it is not ready is what the caller needs.
    debug('killing process %d: %s', started.pid, error)
  }
}
