/** What commands that take turns say when it is not theirs. */
import { RingbellError } from '../index.js'

/** For `--try`. `what`: `lock 'db'`. */
export function notAvailable(what: string): RingbellError {
  return new RingbellError('ERR_RINGBELL_TIMEOUT', `The ${what} is held by others.`)
}
