/** Options of locks, semaphores, flags and mutexes, and how long a request waits. */
import { check, checkArgument, duration, flag, integer, LONGEST_MS, oneOf, type Rules, signal } from '../check.js'
import { RingbellError } from '../errors.js'
import { type SignalOptions, throwIfAborted } from '../wait/abort.js'
import type { Limits } from '../wait/waiting.js'

/** How a lock is held: by one alone, or by many at a time. */
export type LockMode = 'exclusive' | 'shared'

/** How long to wait for something that others hold. */
export interface TakeOptions extends SignalOptions {
  /** Milliseconds; then it rejects with `ERR_RINGBELL_TIMEOUT`. No limit by default. */
  timeout?: number | undefined
}

/** How to take a lock if it is available. */
export interface TryLockOptions {
  /** `'exclusive'` by default. */
  mode?: LockMode | undefined
}

/** How to take a lock. */
export interface LockOptions extends TryLockOptions, TakeOptions {}

/** How to request a lock for a callback. */
export interface LockRequestOptions extends LockOptions {
  /** Do not wait for another holder: call back with `null` if there is one. */
  ifAvailable?: boolean | undefined
}

/** What a semaphore is opened with. */
export interface SemaphoreOptions extends SignalOptions {
  /** How many permits there are in all, from 1 to 16,777,215. Every process names the same number. */
  permits: number
}

/** What a sharded mutex is opened with. */
export interface ShardedMutexOptions extends SignalOptions {
  /** How many shards there are: a power of two up to 1,024. 64 by default. Every process names the same number. */
  shards?: number | undefined
}

/** How to take permits for a callback. */
export interface UseOptions extends TakeOptions {
  /** How many. 1 by default. */
  permits?: number | undefined
}

const mode = oneOf('exclusive', 'shared')
const TAKE: Rules = { signal, timeout: duration(0, LONGEST_MS, 'milliseconds') }
const TRY_LOCK: Rules = { mode }
const LOCK: Rules = { ...TAKE, ...TRY_LOCK }
const REQUEST: Rules = {
  ...LOCK,
  ifAvailable: flag,
  steal: () =>
    'is refused: a process that stands still cannot be told that it lost its lock; use bus.claim(), which has epochs',
}
const MOST_PERMITS = 2 ** 24 - 1
/** The core knows that they are a power of two. */
const shards = integer(1, 1024)

export function checkTake(options: object): void {
  check(options, TAKE)
}

export function checkTryLock(options: object): void {
  check(options, TRY_LOCK)
}

export function checkLock(options: object): void {
  check(options, LOCK)
}

export function checkRequest(options: object): void {
  check(options, REQUEST)
}

export function checkSemaphore(options: object): void {
  check(options, { signal, permits: integer(1, MOST_PERMITS) })
}

export function checkShardedMutex(options: object): void {
  check(options, { signal, shards })
}

/** `all`: how many permits there are. */
export function checkUse(options: object, all: number): void {
  check(options, { ...TAKE, permits: integer(1, all) })
}

export function checkPermits(permits: number, all: number): void {
  checkArgument('permits', permits, integer(1, all))
}

export function checkValue(name: string, value: boolean): void {
  checkArgument(name, value, flag)
}

/** Nothing but the answer ends the wait. */
export const endless = (): Limits => ({})

/**
 * How long one request waits, in all its steps: it may first have to open a name. The result gives the limits of the next
 * step. `what` could not be had when the time is over; `why` ends that sentence.
 *
 * @throws {AbortError} when the signal is aborted already.
 */
export function patience(
  { signal, timeout }: TakeOptions,
  what: string,
  why = (waited: string): string => `was not to be had ${waited}: others hold it`,
): () => Limits {
  if (signal === undefined && timeout === undefined) return endless
  throwIfAborted(signal)
  if (timeout === undefined) return () => ({ signal })
  const end = performance.now() + timeout
  const late = (): RingbellError =>
    new RingbellError('ERR_RINGBELL_TIMEOUT', `The ${what} ${why(`within ${timeout} ms`)}.`)
  return () => ({ signal, timeout: Math.max(0, end - performance.now()), late })
}
