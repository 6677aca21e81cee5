/**
 * Tells the service manager that started this process how it is (systemd, or what speaks its protocol): ready, stopping, and
 * that it still works. Without one nothing happens.
 */
import { translated } from '../errors.js'
import { binding } from '../native.js'

/**
 * Sends a state such as `READY=1`, `STOPPING=1`, `WATCHDOG=1` or `STATUS=3 of 3`; several are lines of one text. `false`: this
 * process was started without `NOTIFY_SOCKET`, so nobody wants to know.
 *
 * @throws {RingbellError} `ERR_RINGBELL_SYSTEM`.
 */
export function notify(state: string): boolean {
  const socket = process.env['NOTIFY_SOCKET']
  if (socket === undefined || socket === '') return false
  translated(() => binding().notify(socket, state))
  return true
}

/** How often to send `WATCHDOG=1`, in milliseconds: half of what the service manager allows. `undefined`: it does not ask for it. */
export function watchdogInterval(): number | undefined {
  const { WATCHDOG_USEC: allowed, WATCHDOG_PID: meant } = process.env
  const microseconds = Number(allowed)
  if (!(microseconds > 0) || (meant !== undefined && Number(meant) !== process.pid)) return undefined
  return Math.max(1, microseconds / 2000)
}
