/**
 * How `inspect` and `stats` reach the counters of topics and states, which are in shared memory: they attach for a moment, as
 * any subscriber or reader does, and leave before anything is printed. They read no message, but the value of a state.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { QueueReport, RingbellError, ServerStats, Service, SourceStats, SubscriberStats } from '../index.js'
import type { Session } from './session.js'
import { announcedState, reportOf, type StateReport } from './state-report.js'

/** The result of attaching to one instance, or of asking it. */
export interface Attachment {
  source?: SourceStats
  state?: StateReport
  server?: ServerStats
  queue?: QueueReport
  /** Why there is nothing else. */
  error?: { code: string | undefined; message: string }
}

/** What attaches: a subscriber, or the reader of a state. */
interface Attaching {
  on(event: 'attached', listener: (source: { readonly service: Service }) => void): unknown
  on(event: 'failed', listener: (error: RingbellError, service?: Service) => void): unknown
  stats(): SubscriberStats
  close(): Promise<void>
}

/** Attaches to the instances of one name that are topics or states. One that takes longer than the timeout gets an error. */
export async function attach(
  { bus, signal }: Session,
  name: string,
  instances: readonly Service[],
  timeout: number,
): Promise<Map<string, Attachment>> {
  const attachments = new Map<string, Attachment>()
  const attached = async <A extends Attaching>(
    kind: 'value' | 'keyed' | undefined,
    open: () => Promise<A>,
    read?: (reader: A) => Uint8Array | undefined,
  ): Promise<void> => {
    const some = instances.filter((one) => one.topic !== undefined && announcedState(one)?.kind === kind)
    if (some.length === 0) return
    const reader = await open()
    try {
      await attachAll(reader, some, timeout, attachments, signal)
      for (const service of some) {
        const attachment = attachments.get(service.id)
        const announced = announcedState(service)
        if (announced === undefined || attachment?.source === undefined) continue
        const state = reportOf(announced, attachment.source, read?.(reader), service.codec)
        attachments.set(service.id, { ...attachment, state })
      }
    } finally {
      await reader.close()
    }
  }
  await Promise.all([
    attached(undefined, () => bus.subscriber(name)),
    attached(
      'value',
      () => bus.watchState(name),
      (reader) => reader.read(),
    ),
    attached('keyed', () => bus.watchKeyedState(name)),
  ])
  return attachments
}

async function attachAll(
  reader: Attaching,
  instances: readonly Service[],
  timeout: number,
  attachments: Map<string, Attachment>,
  signal: AbortSignal,
): Promise<void> {
  const missing = new Set(instances.map(({ id }) => id))
  const late = new AbortController()
  const over = AbortSignal.any([late.signal, signal])
  const settle = (id: string, attachment: Attachment): void => {
    attachments.set(id, attachment)
    missing.delete(id)
    if (missing.size === 0) late.abort()
  }
  reader.on('attached', ({ service: { id } }) => {
    const source = reader.stats().sources.find((one) => one.id === id)
    if (source !== undefined) settle(id, { source })
  })
  reader.on('failed', ({ code, message }, service) => {
    if (service !== undefined) settle(service.id, { error: { code, message } })
  })
  await sleep(timeout, undefined, { signal: over }).catch(() => {})
  signal.throwIfAborted()
  for (const id of missing)
    attachments.set(id, { error: { code: 'ERR_RINGBELL_TIMEOUT', message: `not attached within ${timeout} ms` } })
}
