/**
 * Every error that the library throws or rejects with, and the one list of their codes.
 * The first part of the list is the core's own (`CODES` in crates/core/src/error.rs); a test compares the two.
 * Errors of the binding arrive as plain `Error`s with `code`, `syscall` and `errno`; `fromNative` is the only place that
 * turns them into `RingbellError`s. Messages say what to do; programs look at `code` alone.
 */

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
] as const

/** Codes that only the TypeScript side knows. */
export const LOCAL_CODES = [
  /** The compiled binding is missing, or is not the one that this package was built with. */
  'ERR_RINGBELL_BINDING',
  /** Somebody else reads this subscriber already: one active iterator, listener, waiting `receive()` or lent batch at a time. */
  'ERR_RINGBELL_BUSY',
  /** A batch, loan or lease was used after it had been given back. */
  'ERR_RINGBELL_RELEASED',
  /** A codec could not encode or decode a value; `cause` has its error. */
  'ERR_RINGBELL_CODEC',
  /** A value is not what its schema asks for; `cause` has the validator's issues. */
  'ERR_RINGBELL_SCHEMA',
  /** A call failed before any part of it could reach a handler: calling again is safe. */
  'ERR_RINGBELL_NOT_SENT',
  /** A call failed after it was sent, and nobody can say whether its handler ran. */
  'ERR_RINGBELL_OUTCOME_UNKNOWN',
  /** The handler answers with a stream: use `client.stream()`. */
  'ERR_RINGBELL_STREAM',
  /** A mistake inside ringbell (a Rust panic, caught at the binding); please report it. */
  'ERR_RINGBELL_INTERNAL',
] as const

/** The code of a {@link RingbellError}. Codes are stable; messages are not. */
export type RingbellErrorCode = (typeof CORE_CODES)[number] | (typeof LOCAL_CODES)[number]

/** All codes, the core's first. */
export const errorCodes: readonly RingbellErrorCode[] = [...CORE_CODES, ...LOCAL_CODES]

/** What a {@link RingbellError} is made of, besides its message. */
export interface RingbellErrorDetails {
  /** The system call that failed, where there is one. */
  syscall?: string | undefined
  /** The name of its errno, such as `'EMFILE'`. */
  errno?: string | undefined
  /** What lies underneath. */
  cause?: unknown
}

/**
 * An error of this library. `code` tells which; `syscall` and `errno` (a name, such as `'EACCES'`) are there when the
 * kernel said no. Waits that a signal ended reject with an {@link AbortError} instead, as everywhere in Node.
 */
export class RingbellError extends Error {
  /** Always `'RingbellError'`. */
  override name = 'RingbellError'
  /** Which error it is; stable. */
  readonly code: RingbellErrorCode
  /** The system call that failed, where there is one. */
  declare readonly syscall?: string
  /** The name of its errno, such as `'EACCES'`. */
  declare readonly errno?: string

  constructor(code: RingbellErrorCode, message: string, details: RingbellErrorDetails = {}) {
    super(message, 'cause' in details ? { cause: details.cause } : undefined)
    this.code = code
    if (details.syscall !== undefined) this.syscall = details.syscall
    if (details.errno !== undefined) this.errno = details.errno
  }
}

/**
 * A wait that its `AbortSignal` ended. Shaped like Node's own (`events.once`, `timers/promises`): `name` is
 * `'AbortError'`, `code` is `'ABORT_ERR'`, and `cause` is the signal's reason.
 */
export class AbortError extends Error {
  /** Always `'AbortError'`. */
  override name = 'AbortError'
  /** As Node's own. */
  readonly code = 'ABORT_ERR'

  constructor(reason?: unknown) {
    super('The operation was aborted', { cause: reason })
  }
}

interface NativeError extends Error {
  code?: unknown
  syscall?: unknown
  errno?: unknown
}

/**
 * What the binding threw, as one of ours; anything that carries no code of ours is handed back as it is. Callbacks throw, too: what
 * they throw may be a proxy or have getters of its own, and none of that harms who asks here.
 */
export function fromNative(error: unknown): unknown {
  try {
    return translation(error)
  } catch {
    return error
  }
}

function translation(error: unknown): unknown {
  if (!(error instanceof Error) || error instanceof RingbellError) return error
  const { code, syscall, errno, message, cause } = error as NativeError
  if (typeof code !== 'string' || !code.startsWith('ERR_RINGBELL_')) return error
  const details: RingbellErrorDetails = {}
  if (typeof syscall === 'string') details.syscall = syscall
  if (typeof errno === 'string') details.errno = errno
  if (cause !== undefined) details.cause = cause
  return new RingbellError(code as RingbellErrorCode, message, details)
}

/** Whatever went wrong with an endpoint of this kind, as an error of ours. */
export function asRingbellError(error: unknown, kind: string): RingbellError {
  const known = fromNative(error)
  if (known instanceof RingbellError) return known
  return new RingbellError('ERR_RINGBELL_INTERNAL', `This ${kind} failed: ${reason(known)}`, { cause: known })
}

/** In words. Code of users (`toJSON`, getters, callbacks) may throw anything. */
export function reason(cause: unknown): string {
  try {
    return String(cause instanceof Error ? cause.message : cause)
  } catch {
    return 'what it threw cannot be described'
  }
}

/** Runs a cold call of the binding and translates what it throws. */
export function translated<R>(call: () => R): R {
  try {
    return call()
  } catch (error) {
    throw fromNative(error)
  }
}

/** The error of a message that no ring of this size can take at once. */
export function tooLarge(bytes: number, limit: number): RingbellError {
  return new RingbellError(
    'ERR_RINGBELL_MESSAGE_TOO_LARGE',
    `A message of ${bytes} bytes is larger than the ${limit} bytes that this ring takes at once; raise its capacity, or use write() on a block topic.`,
  )
}

/** The error of everything that was used after its `close()`. */
export function closedError(what: string): RingbellError {
  return new RingbellError('ERR_RINGBELL_CLOSED', `This ${what} is closed.`)
}

/** The error of a second reader, or of reading while a batch is lent out. */
export function busy(why: string, what = 'subscriber'): RingbellError {
  return new RingbellError('ERR_RINGBELL_BUSY', `This ${what} ${why}. Leave that first, or open a second ${what}.`)
}
