/** Waiting until one very process has announced what is awaited of it: `spawnAndWait` and the instances of groups do it in this way. */
import { RingbellError } from '../errors.js'
import type { SignalOptions } from '../wait/abort.js'
import { type Waiting, waitFor } from '../wait/waiting.js'
import type { ProcessHandle } from './process.js'

/**
 * `follow` resolves the wait when the process has announced it, and returns how to stop. Rejects with `ERR_RINGBELL_EXITED` as soon as
 * the process ends, with `ERR_RINGBELL_TIMEOUT` or an `AbortError`.
 */
export function announcing<V>(
  process: ProcessHandle,
  what: string,
  follow: (waiting: Waiting<V>) => () => void,
  { timeout, signal }: SignalOptions & { timeout: number },
): Promise<V> {
  return waitFor<V>(
    (waiting) => {
      const ended = async (): Promise<void> => waiting.reject(await process.endedUnannounced(what))
      void ended()
      return follow(waiting)
    },
    {
      timeout,
      signal,
      late: () =>
        new RingbellError(
          'ERR_RINGBELL_TIMEOUT',
          `'${process.command}' (process ${process.pid}) did not announce '${what}' within ${timeout} ms.`,
        ),
    },
  )
}
