/**
 * AbortSignals, used as Node does. An aborted wait rejects with an `AbortError` (`code` `'ABORT_ERR'`); its `cause` is
 * the signal's reason. Each wait removes its listener when it ends, because one long-lived signal may serve millions of
 * waits. A signal that fired because its time was up ends a wait only after a last look at what has arrived.
 */
import { setMaxListeners } from 'node:events'
import { check, type Rules, signal } from '../check.js'
import { failureOf } from '../closing.js'
import { debug } from '../diagnostics.js'
import { AbortError } from '../errors.js'
import { isDeadline, lastLook } from './last-look.js'

/**
 * Signals whose limit of listeners was removed, so that many waits on one signal cause no warning. Each wait removes
 * its own listener.
 */
const shared = new WeakSet<AbortSignal>()

const SIGNAL: Rules = { signal }

/** Options of every wait. */
export interface SignalOptions {
  /** When it fires, the wait ends and rejects with an `AbortError`. */
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
 * Calls `aborted` when the signal fires, or soon if it has fired already. The call never comes before this function
 * returns, so the caller is ready for it. The returned function removes the listener. Neither of them throws: a signal
 * may be any object with the methods of one (jsdom), and one that cannot be listened to counts as fired.
 */
export function onAbort(signal: AbortSignal | undefined, aborted: (error: AbortError) => void): () => void {
  if (signal === undefined) return nothing
  try {
    return listened(signal, aborted)
  } catch (error) {
    return soon(() => aborted(new AbortError(error)))
  }
}

function listened(signal: AbortSignal, aborted: (error: AbortError) => void): () => void {
  let callOff: (() => void) | undefined
  const listener = (): void => {
    if (isDeadline(signal.reason)) callOff = lastLook(() => aborted(new AbortError(signal.reason)))
    else aborted(new AbortError(signal.reason))
  }
  if (signal.aborted) return soon(listener)
  if (!shared.has(signal)) {
    shared.add(signal)
    allowMany(signal)
  }
  signal.addEventListener('abort', listener, { once: true })
  return () => {
    callOff?.()
    const failure = failureOf(() => signal.removeEventListener('abort', listener))
    if (failure !== undefined) debug('leaving a signal: %s', failure)
  }
}

function allowMany(signal: AbortSignal): void {
  try {
    setMaxListeners(0, signal)
  } catch {
    // A signal that is not Node's (jsdom) has no limit.
  }
}

function soon(listener: () => void): () => void {
  let wanted = true
  queueMicrotask(() => {
    if (wanted) listener()
  })
  return () => (wanted = false)
}

function nothing(): void {}
