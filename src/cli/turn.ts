/** What commands that take turns say when it is not theirs, or when there is nothing to do in it. */
import { CommandError } from './exit-codes.js'
import { RingbellError } from '../index.js'

/** For `--try`. `what`: `lock 'db'`. */
export function notAvailable(what: string): RingbellError {
  return new RingbellError('ERR_RINGBELL_TIMEOUT', `The ${what} is held by others.`)
}

/** Options that say how to wait for a turn, without a command to run in it. */
export function checkCommandless(command: string, options: object): void {
  const [given] = Object.keys(options)
  if (given === undefined) return
  throw new CommandError(
    'ERR_RINGBELL_INVALID_OPTION',
    `--${given} needs a command to run: ringbell ${command} NAME --${given} -- COMMAND`,
  )
}
