/** Waiting until one very process has announced what is awaited of it: `spawnAndWait` and the instances of groups do it in this way. */
import { RingbellError } from '../errors.js'
import type { Service } from '../index.js'
import type { SignalOptions } from '../wait/abort.js'
import { type Waiting, waitFor } from '../wait/waiting.js'
import { hasStarted } from './ancestry.js'
import type { ProcessHandle } from './process.js'

/**
 * `follow` resolves the wait when the process has announced it, and returns how to stop. Rejects with `ERR_RINGBELL_EXITED` as soon as
 * the process ends, with `ERR_RINGBELL_TIMEOUT` or an `AbortError`. `others`: what other processes have announced under that name.
 */
export function announcing<V>(
  process: ProcessHandle,
  what: string,
  follow: (waiting: Waiting<V>) => () => void,
  { timeout, signal, others }: SignalOptions & { timeout: number; others: () => readonly Service[] },
): Promise<V> {
  const late = (): RingbellError => {
    const message = `'${process.command}' (process ${process.pid}) did not announce '${what}' within ${timeout} ms`
    const child = others().find((service) => hasStarted(process.pid, service))
    const advice =
      child === undefined ? '' : `, but process ${child.pid}, which it started, did: start that one, in a shell by exec`
    return new RingbellError('ERR_RINGBELL_TIMEOUT', `${message}${advice}.`)
  }
  return waitFor<V>(
    (waiting) => {
      const ended = async (): Promise<void> => waiting.reject(await process.endedUnannounced(what))
      void ended()
      return follow(waiting)
    },
    { timeout, signal, late },
  )
}
