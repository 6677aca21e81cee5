/**
 * Every error that the library throws or rejects with, and the one list of their codes.
 * The first part of the list is the core's own (`CODES` in crates/core/src/error.rs); a test compares the two.
 * Errors of the binding arrive as plain `Error`s with `code`, `syscall` and `errno`; `fromNative` is the only place that
 * turns them into `RingbellError`s. Messages say what to do; programs look at `code` alone.
 */

import { constants } from 'node:os'
import { isError } from './brand.js'

/** Codes that the Rust core decides. The order is the core's. */
export const CORE_CODES = [
  'ERR_RINGBELL_SYSTEM',
  'ERR_RINGBELL_RESOURCE',
  'ERR_RINGBELL_INVALID_NAME',
  'ERR_RINGBELL_INVALID_OPTION',
  'ERR_RINGBELL_BUS_DIRECTORY',
  'ERR_RINGBELL_RECORD',
  'ERR_RINGBELL_NOT_FOUND',
  'ERR_RINGBELL_TIMEOUT',
  'ERR_RINGBELL_ABORTED',
  'ERR_RINGBELL_CLOSED',
  'ERR_RINGBELL_MESSAGE_TOO_LARGE',
  'ERR_RINGBELL_WINDOW_OPEN',
  'ERR_RINGBELL_PROTOCOL_VERSION',
  'ERR_RINGBELL_CORRUPT_PEER',
  'ERR_RINGBELL_NO_SLOT',
  'ERR_RINGBELL_REFUSED',
  'ERR_RINGBELL_ACQUIRE',
  'ERR_RINGBELL_EVICTED',
  'ERR_RINGBELL_UNSUPPORTED_PLATFORM',
  'ERR_RINGBELL_PEER_GONE',
  'ERR_RINGBELL_NO_PERMISSION',
  'ERR_RINGBELL_NAME_TAKEN',
  'ERR_RINGBELL_DISCONNECTED',
  'ERR_RINGBELL_STATE_FULL',
  'ERR_RINGBELL_CLAIM_LOST',
  'ERR_RINGBELL_NOT_PRIMARY',
] as const

/** Codes that only the TypeScript side knows. */
export const LOCAL_CODES = [
  /** The compiled binding is missing, or is not the one that this package was built with. */
  'ERR_RINGBELL_BINDING',
  /** Another reader is active: one iterator, listener, waiting `receive()` or lent batch at a time. */
  'ERR_RINGBELL_BUSY',
  /** A batch, loan or lease was used after it had been given back. */
  'ERR_RINGBELL_RELEASED',
  /** A codec could not encode or decode a value; `cause` has its error. */
  'ERR_RINGBELL_CODEC',
  /** A value does not match its schema; `cause` has the issues of the validator. */
  'ERR_RINGBELL_SCHEMA',
  /** A call failed before any part of it could reach a handler: calling again is safe. */
  'ERR_RINGBELL_NOT_SENT',
  /** A call failed after it was sent. It is unknown whether its handler ran. */
  'ERR_RINGBELL_OUTCOME_UNKNOWN',
  /** The handler answers with a stream: use `client.stream()`. */
  'ERR_RINGBELL_STREAM',
  /** The handler at the other side failed with an error of ringbell, or was aborted: `remoteCode` has its code. Not the caller's own. */
  'ERR_RINGBELL_REMOTE',
  /** A process ended before it was ready; `cause` has how it ended, and the last lines of its stderr. */
  'ERR_RINGBELL_EXITED',
  /** An optional package that this part of ringbell needs is not installed; the message names it. */
  'ERR_RINGBELL_MISSING_PACKAGE',
  /** A bridge cannot use NATS: the server cannot be reached, or it refuses; `cause` has what NATS says. */
  'ERR_RINGBELL_NATS',
  /** A bug in ringbell (a Rust panic, caught at the binding); please report it. */
  'ERR_RINGBELL_INTERNAL',
] as const

/** The code of a {@link RingbellError}. Codes are stable; messages are not. */
export type RingbellErrorCode = (typeof CORE_CODES)[number] | (typeof LOCAL_CODES)[number]

/** All codes, the core's first. */
export const errorCodes: readonly RingbellErrorCode[] = [...CORE_CODES, ...LOCAL_CODES]

/** The details of a {@link RingbellError}, besides its message. */
export interface RingbellErrorDetails {
  /** The system call that failed, where there is one. */
  syscall?: string | undefined
  /** Its errno, below 0 as in Node's own errors. */
  errno?: number | undefined
  /** The underlying error. */
  cause?: unknown
}

/**
 * An error of this library. `code` says which one. `syscall` and `errno` are set if a system call failed. A wait that a signal ends rejects with an {@link AbortError} instead, as everywhere in Node.
 */
export class RingbellError extends Error {
  /** Always `'RingbellError'`. */
  override name = 'RingbellError'
  /** Which error it is; stable. */
  readonly code: RingbellErrorCode
  /** The system call that failed, where there is one. */
  declare readonly syscall?: string
  /** Its errno, below 0 as in Node's own errors: `util.getSystemErrorName(errno)` is its name, such as `'EACCES'`. */
  declare readonly errno?: number

  constructor(code: RingbellErrorCode, message: string, details: RingbellErrorDetails = {}) {
    super(message, 'cause' in details ? { cause: details.cause } : undefined)
    this.code = code
    if (details.syscall !== undefined) this.syscall = details.syscall
    if (details.errno !== undefined) this.errno = details.errno
  }
}

/**
 * The error of a wait that its `AbortSignal` ended. It has the form of Node's own (`events.once`, `timers/promises`):
 * `name` is `'AbortError'`, `code` is `'ABORT_ERR'`, and `cause` is the signal's reason.
 */
export class AbortError extends Error {
  /** Always `'AbortError'`. */
  override name = 'AbortError'
  /** The same as Node's own. */
  readonly code = 'ABORT_ERR'

  constructor(reason?: unknown) {
    super('The operation was aborted', { cause: reason })
  }
}

/** By its name and code, so that the class of another realm or of a second copy of this package counts. */
export function isRingbellError(error: unknown): error is RingbellError {
  if (!isError(error)) return false
  return error.name === 'RingbellError' && isOurs((error as { code?: unknown }).code)
}

function isOurs(code: unknown): code is RingbellErrorCode {
  return typeof code === 'string' && code.startsWith('ERR_RINGBELL_')
}

interface NativeError extends Error {
  code?: unknown
  syscall?: unknown
  errno?: unknown
}

/**
 * Turns an error of the binding into a `RingbellError`. Anything without one of our codes is returned as it is. Values
 * that callbacks throw also come here. They may be proxies or have getters that throw, so reading them must not throw.
 */
export function fromNative(error: unknown): unknown {
  try {
    return translation(error)
  } catch {
    return error
  }
}

function translation(error: unknown): unknown {
  if (!isError(error) || isRingbellError(error)) return error
  const { code, syscall, errno, message, cause } = error as NativeError
  if (!isOurs(code)) return error
  const details: RingbellErrorDetails = {}
  if (typeof syscall === 'string') details.syscall = syscall
  if (typeof errno === 'string') details.errno = errnoOf(errno)
  if (cause !== undefined) details.cause = cause
  return new RingbellError(code, message, details)
}

/** An error in a notice of the core. */
export interface CoreError {
  code: RingbellErrorCode
  message: string
  syscall?: string
  /** Its name. */
  errno?: string
}

export function errorOf({ code, message, syscall, errno }: CoreError): RingbellError {
  return new RingbellError(code, message, { syscall, errno: errno === undefined ? undefined : errnoOf(errno) })
}

/** The core names an errno. Node's errors have its number. */
function errnoOf(name: string): number | undefined {
  const number: number | undefined = constants.errno[name as keyof typeof constants.errno]
  return number === undefined ? undefined : -number
}

/** Any error of an endpoint of this kind, as a `RingbellError`. */
export function asRingbellError(error: unknown, kind: string): RingbellError {
  const known = fromNative(error)
  if (isRingbellError(known)) return known
  return new RingbellError('ERR_RINGBELL_INTERNAL', `This ${kind} failed: ${reason(known)}`, { cause: known })
}

/** The message of an error, or another thrown value as text. User code (`toJSON`, getters, callbacks) may throw anything. */
export function reason(cause: unknown): string {
  try {
    return String(isError(cause) ? cause.message : cause)
  } catch {
    return 'the thrown value cannot be described'
  }
}

/** Runs a cold call of the binding and translates its errors. */
export function translated<R>(call: () => R): R {
  try {
    return call()
  } catch (error) {
    throw fromNative(error)
  }
}

/** The error for a message that is too large for a ring of this size. */
export function tooLarge(bytes: number, limit: number): RingbellError {
  return new RingbellError(
    'ERR_RINGBELL_MESSAGE_TOO_LARGE',
    `A message of ${bytes} bytes is larger than the ${limit} bytes that this ring takes at once; raise its capacity, or use write() on a block topic.`,
  )
}

/** The error for a value, or a key and its value, that a state of this size cannot hold. */
export function tooLargeForState(bytes: number, limit: number, what = 'value'): RingbellError {
  return new RingbellError(
    'ERR_RINGBELL_MESSAGE_TOO_LARGE',
    `A ${what} of ${bytes} bytes is larger than the ${limit} bytes of this state; open it with a larger size.`,
  )
}

/** The error for a state whose name another process writes. */
export function heldByAnother(name: string): RingbellError {
  return new RingbellError(
    'ERR_RINGBELL_REFUSED',
    `Another process writes the state '${name}', or claims its name; the option standby waits for its turn.`,
  )
}

/** The error for an object that is used after its `close()`. */
export function closedError(what: string): RingbellError {
  // A connection is not opened by its user.
  const advice = what === 'connection' ? '' : '; open a new one'
  return new RingbellError('ERR_RINGBELL_CLOSED', `This ${what} is closed${advice}.`)
}

/** The error for a second reader, or for reading while a batch is lent out. */
export function busy(why: string, what = 'subscriber'): RingbellError {
  return new RingbellError('ERR_RINGBELL_BUSY', `This ${what} ${why}. End that first, or open a second ${what}.`)
}
