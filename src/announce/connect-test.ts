/** The connect test: whether something accepts connections at an address, now. Nothing is sent. */
import { check, duration, LONGEST_MS, type Rules, signal as signalRule } from '../check.js'
import { inSteps } from '../closing.js'
import { invalid } from '../invalid.js'
import { onAbort, type SignalOptions, throwIfAborted } from '../wait/abort.js'
import { addressOf, type Target, targetOf } from './address.js'
import { LongPaths } from './long-paths.js'

/** How long a connect test may take. */
export interface ConnectTestOptions extends SignalOptions {
  /** Milliseconds, 2,000 by default. What has not accepted by then does not. */
  timeout?: number | undefined
}

const RULES: Rules = { signal: signalRule, timeout: duration(1, LONGEST_MS, 'milliseconds') }
const TIMEOUT_MS = 2000
/** The backlog of a Unix socket is full: it is busy, and somebody listens. */
const BUSY = 'EAGAIN'

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
  const paths = new LongPaths()
  try {
    return await accepts(target, paths, timeout, signal)
  } finally {
    paths.close()
  }
}

async function accepts(
  target: Target,
  paths: LongPaths,
  timeout: number,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  // Loaded by those who test.
  const { connect } = await import('node:net')
  let to
  try {
    to = 'socketPath' in target ? { path: paths.shortened(target.socketPath) } : { ...target }
  } catch {
    // Its directory is not there, or not for us.
    return false
  }
  return new Promise((resolve, reject) => {
    const socket = connect(to)
    const timer = setTimeout(() => end(() => resolve(false)), timeout)
    const forget = onAbort(signal, (error) => end(() => reject(error)))
    const end = (settle: () => void): void =>
      inSteps(() => clearTimeout(timer), forget, () => void socket.destroy(), settle)
    socket.once('connect', () => end(() => resolve(true)))
    socket.on('error', ({ code }: NodeJS.ErrnoException) => end(() => resolve(code === BUSY)))
  })
}
