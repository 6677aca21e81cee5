/** For commands that use what other processes announce: waits for an instance of a name and kind. */
import { AbortError, RingbellError, type Service } from '../index.js'
import { duration } from './figures.js'
import { mismatch } from './kind-mismatch.js'
import { placeOf, type Session } from './session.js'

/** Returns the first instance. `timeout`: milliseconds, by default without a limit. `verb`: for the error, `No process …`. */
export async function firstInstance(
  { bus, signal }: Pick<Session, 'bus' | 'signal'>,
  name: string,
  kind: string,
  verb: string,
  timeout?: number,
): Promise<Service> {
  const late = timeout === undefined ? undefined : AbortSignal.timeout(Math.ceil(timeout))
  const over = late === undefined ? signal : AbortSignal.any([signal, late])
  try {
    for await (const { service, type } of bus.services.watch({ filter: name, signal: over }))
      if (type === 'added' && service.kind === kind) return service
  } catch (error) {
    if (!(error instanceof AbortError) || late?.aborted !== true) throw error
  }
  const waited = duration((timeout ?? 0) * 1e6)
  throw new RingbellError(
    'ERR_RINGBELL_NOT_FOUND',
    `No process ${verb} '${name}' on ${placeOf(bus)}, waited ${waited}${mismatch(bus, name, kind)}`,
  )
}
