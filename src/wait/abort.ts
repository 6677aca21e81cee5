/**
 * AbortSignals, in Node's manner. An aborted wait rejects with an `AbortError` (`code` `'ABORT_ERR'`); its `cause` is the signal's
 * reason. Each wait removes its listener when it ends, because one long-lived signal may serve millions of waits.
 */
import { setMaxListeners } from 'node:events'
import { check, type Rules, signal } from '../check.js'
import { AbortError } from '../errors.js'

/** Signals that any number of waits may hang on without a warning: each takes its listener away again. */
const shared = new WeakSet<AbortSignal>()

const SIGNAL: Rules = { signal }

/** Options of every wait. */
export interface SignalOptions {
  /** Ends the wait; it then rejects with an `AbortError`. */
  signal?: AbortSignal | undefined
}

/** @throws {RingbellError} `ERR_RINGBELL_INVALID_OPTION` for anything but a signal. */
export function checkSignal(options: SignalOptions): void {
  check(options, SIGNAL)
}

/** @throws {AbortError} when the signal is aborted already. */
export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw new AbortError(signal.reason)
}

/**
 * Calls `aborted` when the signal fires, soon if it has; never before this returns, so that the caller is ready for it. The
 * result takes the listener away.
 */
export function onAbort(signal: AbortSignal | undefined, aborted: (error: AbortError) => void): () => void {
  if (signal === undefined) return nothing
  const listener = (): void => aborted(new AbortError(signal.reason))
  if (signal.aborted) return soon(listener)
  if (!shared.has(signal)) {
    shared.add(signal)
    setMaxListeners(0, signal)
  }
  signal.addEventListener('abort', listener, { once: true })
  return () => signal.removeEventListener('abort', listener)
}

function soon(listener: () => void): () => void {
  let wanted = true
  queueMicrotask(() => {
    if (wanted) listener()
  })
  return () => (wanted = false)
}

function nothing(): void {}
