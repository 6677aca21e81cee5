/**
 * Errors that cross a channel. A *refusal* is the library's own: no handler was called, or it answered in the wrong way. A
 * *failure* is what a handler threw. The codes of a failure must not be taken for those of the caller's own call: a gateway
 * that lets `ERR_RINGBELL_NOT_SENT` of an inner call through has done its work all the same. If the thrown value or the
 * received bytes are hostile, at worst the text is lost.
 */
import { Buffer } from 'node:buffer'
import { isError } from '../brand.js'
import type { RingbellError } from '../errors.js'

/**
 * An error that happened at the other end. It also has the `cause` of what was thrown there, and its own enumerable fields
 * (such as `status`), as far as JSON can carry them.
 */
export class RemoteError extends Error {
  /** Always `'RemoteError'`; the name of the thrown error is `remoteName`. */
  override name = 'RemoteError'
  /**
   * The `code` of what was thrown, if it had one; `ERR_RINGBELL_REMOTE` in place of a code of ringbell's own, or of an
   * `AbortError`. Another code of ringbell's own says that the other side has refused the request.
   */
  readonly code: string | undefined
  /** The `name` of what was thrown, such as `'TypeError'`. */
  readonly remoteName: string
  /** The `code` of what was thrown, whatever it was. */
  readonly remoteCode: string | undefined;
  /** A field of what was thrown. */
  [field: string]: unknown

  /** @internal */
  constructor(message: string, code: string | undefined, remoteName: string, remoteCode = code) {
    super(message)
    this.code = code
    this.remoteName = remoteName
    this.remoteCode = remoteCode
  }
}

/** What travels, as JSON. */
interface Told {
  readonly code?: string | undefined
  /** The code for which `ERR_RINGBELL_REMOTE` stands. */
  readonly original?: string | undefined
  readonly name: string
  readonly message: string
  readonly cause?: Told | { readonly value: unknown } | undefined
  readonly fields?: Readonly<Record<string, unknown>> | undefined
}

const REMOTE = 'ERR_RINGBELL_REMOTE'
/** What a library at the other side may say by itself. */
const REFUSALS = new Set<string>([
  REMOTE,
  'ERR_RINGBELL_BUSY',
  'ERR_RINGBELL_CLOSED',
  'ERR_RINGBELL_NOT_FOUND',
  'ERR_RINGBELL_MESSAGE_TOO_LARGE',
  'ERR_RINGBELL_RESOURCE',
  'ERR_RINGBELL_CODEC',
  'ERR_RINGBELL_SCHEMA',
  'ERR_RINGBELL_STREAM',
  'ERR_RINGBELL_NOT_PRIMARY',
])
/** These travel by themselves. */
const TOLD_APART = new Set(['name', 'message', 'code', 'stack', 'cause', 'remoteName', 'remoteCode'])

/** Limits in UTF-16 code units; longer texts are cut, and longer fields are left out. */
const LONGEST_TEXT = 8192
const LONGEST_LABEL = 256
const LONGEST_FIELDS = 16_384
const MOST_FIELDS = 64
const MOST_CAUSES = 4
const RESOLVED = Promise.resolve()

/** The library answers in place of the handler. */
export function encodeRefusal(error: RingbellError): Uint8Array {
  const { code, name, message } = error
  // The issues of a schema. Other causes are errors of this side.
  const cause = Array.isArray(error.cause) ? causeOf(error, 0) : undefined
  return bytesOf({ code, name, message: message.slice(0, LONGEST_TEXT), cause })
}

/** A handler threw this, or what it returned cannot be sent. */
export function encodeFailure(thrown: unknown): Uint8Array {
  return bytesOf(told(thrown, MOST_CAUSES))
}

/** As it came, for a server that passes calls on. */
export function encodeAgain(error: RemoteError): Uint8Array {
  return bytesOf(toldAgain(error, MOST_CAUSES))
}

export function decodeError(data: Uint8Array): RemoteError {
  return remote(parsed(data), MOST_CAUSES)
}

/**
 * A rejection with the error, for the promise of a caller to follow. V8 adds the frames that `await` a promise only to an
 * error that is made in a job which that promise waits for, so it is made two jobs later.
 */
export function rejection(data: Uint8Array): Promise<never> {
  return RESOLVED.then(nothing).then(function arrive(): never {
    const error = decodeError(data)
    Error.captureStackTrace(error, arrive)
    throw error
  })
}

function nothing(): void {}

function bytesOf(error: Told): Uint8Array {
  return Buffer.from(JSON.stringify(error), 'utf8')
}

/** Whether the code could be taken for that of the caller's own call. */
function isOurs(code: string | undefined, name: string): boolean {
  return code?.startsWith('ERR_RINGBELL_') === true || code === 'ABORT_ERR' || name === 'AbortError'
}

function toldAgain(error: RemoteError, causes: number): Told {
  const { code, remoteCode, remoteName, message, cause } = error
  return {
    code,
    original: remoteCode === code ? undefined : remoteCode,
    name: remoteName,
    message,
    cause: causes === 0 ? undefined : cause instanceof RemoteError ? toldAgain(cause, causes - 1) : causeOf(error, 0),
    fields: fieldsOf(error),
  }
}

/** Getters and `toString` of a thrown value are user code, and may throw. */
function told(thrown: unknown, causes: number): Told {
  try {
    if (typeof thrown !== 'object' || thrown === null)
      return { name: 'Error', message: String(thrown).slice(0, LONGEST_TEXT) }
    const { code, name, message, remoteCode } = thrown as Record<string, unknown>
    const label = typeof code === 'string' || typeof code === 'number' ? labelOf(String(code)) : undefined
    const called = textOr(name, 'Error', LONGEST_LABEL)
    const ours = isOurs(label, called)
    return {
      code: ours ? REMOTE : label,
      // If it has come from a third process, it is still the first code that counts.
      original: ours ? ((label === REMOTE ? labelOf(remoteCode) : undefined) ?? label) : undefined,
      name: called,
      message: textOr(message, 'The handler threw something that is not an error', LONGEST_TEXT),
      cause: causes > 0 ? causeOf(thrown, causes - 1) : undefined,
      fields: fieldsOf(thrown),
    }
  } catch {
    return { name: 'Error', message: 'The handler threw something that cannot be described' }
  }
}

function causeOf(thrown: object, causes: number): Told['cause'] {
  try {
    const { cause } = thrown as { cause?: unknown }
    if (cause === undefined) return undefined
    if (isError(cause)) return told(cause, causes)
    const json = JSON.stringify(cause) as string | undefined
    return json === undefined || json.length > LONGEST_TEXT ? undefined : { value: JSON.parse(json) }
  } catch {
    return undefined
  }
}

function fieldsOf(thrown: object): Told['fields'] {
  const fields: [string, unknown][] = []
  let room = LONGEST_FIELDS
  for (const key of Object.keys(thrown)) {
    if (TOLD_APART.has(key)) continue
    const json = fieldJson(thrown, key)
    if (json === undefined || key.length + json.length > room) continue
    room -= key.length + json.length
    fields.push([key, JSON.parse(json)])
    if (fields.length === MOST_FIELDS) break
  }
  return fields.length === 0 ? undefined : Object.fromEntries(fields)
}

function fieldJson(thrown: object, key: string): string | undefined {
  try {
    return JSON.stringify((thrown as Record<string, unknown>)[key])
  } catch {
    return undefined
  }
}

function remote(value: unknown, causes: number): RemoteError {
  const { code, original, name, message, cause, fields } = objectOf(value)
  const label = labelOf(code)
  const called = textOr(name, 'Error', LONGEST_LABEL)
  const hidden = isOurs(label, called) && !REFUSALS.has(label ?? '')
  const error = new RemoteError(
    textOr(message, 'The other side failed, and its error could not be read', LONGEST_TEXT),
    hidden ? REMOTE : label,
    called,
    labelOf(original) ?? label,
  )
  for (const [key, field] of Object.entries(objectOf(fields)).slice(0, MOST_FIELDS))
    // Nothing that an error has already, or inherits, is replaced.
    if (!(key in error) && key !== 'cause') error[key] = field
  if (cause !== undefined) {
    const { value: plain } = objectOf(cause)
    // As `new Error(message, { cause })` does.
    Object.defineProperty(error, 'cause', {
      value: plain === undefined && causes > 0 ? remote(cause, causes - 1) : plain,
      configurable: true,
      writable: true,
    })
  }
  return error
}

function parsed(data: Uint8Array): unknown {
  try {
    return JSON.parse(Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString('utf8'))
  } catch {
    return undefined
  }
}

function objectOf(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {}
}

function labelOf(value: unknown): string | undefined {
  return typeof value === 'string' ? value.slice(0, LONGEST_LABEL) : undefined
}

function textOr(value: unknown, otherwise: string, most: number): string {
  return typeof value === 'string' ? value.slice(0, most) : otherwise
}
