/** The managers of a service that a command is about. */
import { type Bus, RingbellError } from '../index.js'
import { managersOn, type RemoteManager } from '../supervise/index.js'
import { counted, DURATIONS } from './figures.js'
import { placeOf } from './session.js'

/** The option of commands that ask managers. */
export const TIMEOUT = [
  '-t, --timeout <duration>',
  `time that a manager has to answer at all (default: 5s) (exit code 3) ${DURATIONS}`,
] as const

/** @throws {RingbellError} `ERR_RINGBELL_NOT_FOUND` if there is none. */
export function managersOf(bus: Bus, service: string): RemoteManager[] {
  const managers = managersOn(bus, { service })
  if (managers.length > 0) return managers
  const members = bus.services.list().filter(({ name }) => name === `${service}.member`)
  const pids = members.map(({ pid }) => pid).join(', ')
  const advice =
    members.length === 0
      ? `is there a 'ringbell run'?`
      : `${counted(members.length, 'member')} (pid ${pids}) ${members.length === 1 ? 'lives' : 'live'} without one: ` +
        `'ringbell run' takes over those whose manager was killed, and 'kill' ends them.`
  throw new RingbellError('ERR_RINGBELL_NOT_FOUND', `No manager keeps '${service}' up on ${placeOf(bus)}; ${advice}`)
}

/** Asks all managers at the same time. One that fails keeps none of the others from its end. */
export async function fromAll<T>(
  managers: readonly RemoteManager[],
  ask: (manager: RemoteManager) => Promise<T>,
): Promise<T[]> {
  const answers = await Promise.allSettled(managers.map(ask))
  return answers.map((answer) => {
    if (answer.status === 'rejected') throw answer.reason
    return answer.value
  })
}
