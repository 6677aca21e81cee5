/**
 * Errors of a server that passes calls on to another one (src/bridge). Its own caller must get what a direct caller of the other one
 * would get: the same `RemoteError`, or one of the two errors `ERR_RINGBELL_NOT_SENT` and `ERR_RINGBELL_OUTCOME_UNKNOWN`. A handler
 * throws a `PassedOn`, and it travels as it is. Other handlers must not use it.
 */
import { AbortError, isRingbellError, reason, RingbellError } from '../errors.js'
import { encodeAgain, encodeFailure, encodeRefusal, RemoteError } from './remote-error.js'
import { NOT_REACHED, TERM_OVER } from './wire.js'

export class PassedOn extends Error {
  readonly data: Uint8Array
  readonly #flags: number

  /** Whatever a handler threw may be asked: also a revoked proxy. */
  static is(error: unknown): error is PassedOn {
    return typeof error === 'object' && error !== null && #flags in error
  }

  constructor(flags: number, data: Uint8Array) {
    super('the error of another server')
    this.#flags = flags
    this.data = data
  }

  /** Those of the error on the wire. */
  get flags(): number {
    return this.#flags
  }
}

/** The call has reached no handler (`reached: false`), or that is unknown. */
export function undelivered(reached: boolean, why: string): PassedOn {
  const flags = reached ? TERM_OVER : NOT_REACHED
  return new PassedOn(flags, encodeRefusal(new RingbellError('ERR_RINGBELL_NOT_SENT', why)))
}

/** What a client's call has rejected with, for another caller; `undefined` if that caller has given up by itself. */
export function passedOn(error: unknown): PassedOn | undefined {
  if (error instanceof RemoteError) return new PassedOn(0, encodeAgain(error))
  if (error instanceof AbortError) return undefined
  if (!isRingbellError(error)) return new PassedOn(0, encodeFailure(error))
  switch (error.code) {
    case 'ERR_RINGBELL_TIMEOUT':
      return undefined
    case 'ERR_RINGBELL_NOT_SENT':
      return undelivered(false, why(error))
    case 'ERR_RINGBELL_OUTCOME_UNKNOWN':
    case 'ERR_RINGBELL_CLOSED':
      return undelivered(true, why(error))
    default:
      return new PassedOn(0, encodeRefusal(error))
  }
}

/** Without the sentence that the caller's own error begins with. */
function why(error: RingbellError): string {
  return reason(error).replace(/^(The call reached no handler|It is unknown whether the call was handled): /, '')
}
