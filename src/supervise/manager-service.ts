/**
 * The control service of a manager, `<service>.manager`: what `ringbell ps`, `restart`, `stop` and `logs` ask in another
 * process. Requests and answers are JSON. Only our own user and root can connect. Its record says that the manager lives,
 * and whose instances it has.
 */
import { inspect } from 'node:util'
import type { Bus, Server } from '../index.js'
import { check, flag, integer, LONGEST_MS, duration, type Rules } from '../check.js'
import { reason, RingbellError } from '../errors.js'
import type { GroupInstance } from './group-options.js'
import type { LogBook, LogLine } from './log-book.js'
import { managerName } from './names.js'

/** A request to a manager. */
export type ManagerRequest =
  | { readonly method: 'instances' }
  | { readonly method: 'restart' | 'failover' }
  | { readonly method: 'stop'; readonly grace?: number | undefined }
  /** Answered with a stream. */
  | { readonly method: 'logs'; readonly lines: number; readonly follow: boolean }

/** The answer; of `logs` a stream of lines. */
export type ManagerAnswer = { readonly instances: readonly GroupInstance[] } | LogLine

/** What the service needs of a group. */
export interface Managed {
  readonly service: string
  readonly id: string
  readonly logs: LogBook
  /** Those of this manager. */
  own(): GroupInstance[]
  restart(): Promise<void>
  forceFailover(): Promise<unknown>
  endInstances(grace?: number): Promise<void>
  stop(): Promise<void>
}

/** What is asked comes from other processes. */
const GRACE: Rules = { grace: duration(0, LONGEST_MS, 'milliseconds') }
const LOGS: Rules = { lines: integer(0, 2 ** 20), follow: flag }

/** Announces a manager. `managers`: its id, and those of dead managers whose instances it has. */
export function serveManager(bus: Bus, group: Managed, managers: readonly string[]): Promise<Server<unknown>> {
  const metadata = { manager: group.id, managers }
  return bus.serve<unknown, unknown, unknown>(
    managerName(group.service),
    { codec: 'json', metadata },
    (request, { signal }) => answer(group, request, signal),
  )
}

async function answer(
  group: Managed,
  request: unknown,
  signal: AbortSignal,
): Promise<ManagerAnswer | AsyncIterable<ManagerAnswer>> {
  const asked = (typeof request === 'object' && request !== null ? request : {}) as Partial<Record<string, unknown>>
  const { method, grace, lines, follow } = asked
  check({ grace }, GRACE)
  check({ lines, follow }, LOGS)
  if (method === 'logs') return group.logs.read(typeof lines === 'number' ? lines : 0, follow === true, signal)
  if (method === 'restart') await group.restart()
  else if (method === 'failover') await group.forceFailover()
  else if (method === 'stop') {
    await group.endInstances(typeof grace === 'number' ? grace : undefined)
    // It waits for this answer.
    group.stop().catch((error: unknown) => {
      const told = `The group '${group.service}' was stopped by another process, and not all of it has ended: ${reason(error)}`
      process.emitWarning(told, { type: 'RingbellWarning', code: 'RINGBELL_FAILED' })
    })
  } else if (method !== 'instances')
    throw new RingbellError(
      'ERR_RINGBELL_NOT_FOUND',
      `A manager has no method ${inspect(method)}; it has instances, restart, failover, stop and logs.`,
    )
  return { instances: group.own() }
}
