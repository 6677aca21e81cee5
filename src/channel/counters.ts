/**
 * Asks the servers and queues of one name for their counters (flag `ABOUT`, about.ts). `bus.counters()` makes a client for it, which takes
 * a connection of each instance for that time. It needs no codec, and a queue does not count it as a worker.
 */
import type { Service } from '../bus/service.js'
import { closedError, RingbellError } from '../errors.js'
import { waitFor } from '../wait/waiting.js'
import type { Client } from './client.js'
import type { DeadLetterSummary } from './dead-letters.js'
import type { RemoteError } from './remote-error.js'
import type { QueueStats, ServerStats } from './stats.js'

/** The counters of a queue, as another process sees them. */
export interface QueueReport extends QueueStats {
  /** Its newest dead letters, at most 16, the oldest first. */
  readonly letters: readonly DeadLetterSummary[]
}

/** The counters of one instance, or why there are none. */
export interface ServiceCounters {
  /** The instance. */
  readonly service: Service
  /** Those of a server. */
  readonly server?: ServerStats
  /** Those of a queue. */
  readonly queue?: QueueReport
  /** Why there are none. */
  readonly error?: RingbellError | RemoteError
}

/**
 * Every service gets its counters or an error, in order. `open` makes the client, which is closed then. It calls `ended`
 * when the bus is closed.
 */
export async function askForCounters(
  open: (ended: () => void) => Client,
  services: readonly Service[],
  timeout: number,
  signal: AbortSignal | undefined,
): Promise<ServiceCounters[]> {
  const missing = new Set(services.map(({ id }) => id))
  const answers = new Map<string, Omit<ServiceCounters, 'service'>>()
  await waitFor(
    (waiting) => {
      const client = open(() => waiting.reject(closedError('bus')))
      const settle = (id: string, answer: Omit<ServiceCounters, 'service'>): void => {
        if (!missing.delete(id)) return
        answers.set(id, answer)
        if (missing.size === 0) waiting.resolve()
      }
      client.on('connected', (connection) => {
        const { id = '', kind = '' } = connection.service ?? {}
        client.serverStats({ connection, timeout, signal }).then(
          (counters) => settle(id, { [kind]: counters }),
          (error: RingbellError | RemoteError) => settle(id, { error }),
        )
      })
      client.on('failed', (error, service) => {
        if (service === undefined) waiting.reject(error)
        else settle(service.id, { error })
      })
      return () => {
        // What is not answered by now has been too late, whatever the end of the client says of it.
        missing.clear()
        client.closeNow()
      }
    },
    { signal, timeout },
  ).catch((error: unknown) => {
    // Nothing: its time was up.
    if (error !== undefined) throw error
  })
  const late = new RingbellError('ERR_RINGBELL_TIMEOUT', `It was not reached within ${timeout} ms.`)
  return services.map((service) => ({ service, ...(answers.get(service.id) ?? { error: late }) }))
}
