/** For commands that talk to what others announce: waits until an instance of a name and kind is there. */
import { AbortError, RingbellError, type Service } from '../index.js'
import { duration } from './figures.js'
import { mismatch } from './kind-mismatch.js'
import { placeOf, type Session } from './session.js'

/** The first instance; `timeout` in milliseconds, by default for ever. `verb`: what nobody does, for the error. */
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
    `Nobody ${verb} '${name}' on ${placeOf(bus)}, waited ${waited}${mismatch(bus, name, kind)}`,
  )
}
