/** The connect test: whether something accepts connections at an address, now. Nothing is sent. */
import { check, duration, LONGEST_MS, type Rules, signal as signalRule } from '../check.js'
import { inSteps } from '../closing.js'
import { translated } from '../errors.js'
import { invalid } from '../invalid.js'
import { binding } from '../native.js'
import { onAbort, type SignalOptions, throwIfAborted } from '../wait/abort.js'
import { lastLook } from '../wait/last-look.js'
import { addressOf, type Target, targetOf } from './address.js'

/** How long a connect test may take. */
export interface ConnectTestOptions extends SignalOptions {
  /** Milliseconds, 2,000 by default. What has not accepted by then does not. */
  timeout?: number | undefined
}

const RULES: Rules = { signal: signalRule, timeout: duration(1, LONGEST_MS, 'milliseconds') }
const TIMEOUT_MS = 2000

/**
 * Whether something accepts connections at an address: a path, `unix:PATH`, `unix:@NAME`, or a URL with a host and a port. A Unix socket
 * whose backlog is full counts as one that does.
 *
 * Rejects with `ERR_RINGBELL_INVALID_OPTION` for any other text, or with an `AbortError`.
 */
export async function canConnect(address: string, options: ConnectTestOptions = {}): Promise<boolean> {
  check(options, RULES)
  const target = typeof address === 'string' ? targetOf(addressOf(address)) : undefined
  if (target === undefined) throw invalid('address', address, 'must be a path, or a URL with a host and a port')
  const { signal, timeout = TIMEOUT_MS } = options
  throwIfAborted(signal)
  return accepts(target, { timeout, signal, stays: true })
}

/** How one target is tested. */
export interface Test {
  readonly timeout: number
  readonly signal: AbortSignal | undefined
  /** The test keeps the process alive. */
  readonly stays: boolean
}

/** As `canConnect`. */
export async function accepts(target: Target, { timeout, signal, stays }: Test): Promise<boolean> {
  // A Unix socket accepts or refuses at once.
  if ('socketPath' in target) return translated(() => binding().socketAnswers(target.socketPath))
  // Loaded by those who test.
  const { connect } = await import('node:net')
  return new Promise((resolve, reject) => {
    const socket = connect({ ...target })
    let callOff: (() => void) | undefined
    const timer = setTimeout(() => (callOff = lastLook(() => end(() => resolve(false)))), timeout)
    if (!stays) {
      socket.unref()
      timer.unref()
    }
    const forget = onAbort(signal, (error) => end(() => reject(error)))
    const end = (settle: () => void): void =>
      inSteps(
        () => clearTimeout(timer),
        () => callOff?.(),
        forget,
        () => void socket.destroy(),
        settle,
      )
    socket.once('connect', () => end(() => resolve(true)))
    socket.on('error', () => end(() => resolve(false)))
  })
}
