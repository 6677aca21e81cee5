/** The managers of a service that a command is about. */
import { type Bus, RingbellError } from '../index.js'
import { managersOn, type RemoteManager } from '../supervise/index.js'
import { placeOf } from './session.js'

/** @throws {RingbellError} `ERR_RINGBELL_NOT_FOUND` if there is none. */
export function managersOf(bus: Bus, service: string): RemoteManager[] {
  const managers = managersOn(bus, { service })
  if (managers.length > 0) return managers
  throw new RingbellError(
    'ERR_RINGBELL_NOT_FOUND',
    `No manager keeps '${service}' up on ${placeOf(bus)}; is there a 'ringbell run'?`,
  )
}
