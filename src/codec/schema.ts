/**
 * Validation by any library that implements Standard Schema (https://standardschema.dev): Zod, Valibot, ArkType, a
 * hand-written object. One rule holds for topics, queues, calls and messages: a sender's schema checks the value, which is
 * then sent as it was given; a receiver gets what its own schema returns. So a default or a conversion takes effect once,
 * also if both sides have the schema. A schema is user code: whatever it throws becomes `ERR_RINGBELL_SCHEMA`.
 */
import { inspect } from 'node:util'
import { notHere, type Rule, type Rules } from '../check.js'
import { reason, RingbellError } from '../errors.js'
import { shownValue } from '../invalid.js'

/** The part of the Standard Schema interface (version 1) that is used here. */
export interface StandardSchema<Input = unknown, Output = Input> {
  /** The properties of a Standard Schema. */
  readonly '~standard': {
    /** The version of the interface. */
    readonly version: 1
    /** The library that made it. */
    readonly vendor: string
    /** Validates a value, at once or by a promise. */
    readonly validate: (value: unknown) => SchemaResult<Output> | Promise<SchemaResult<Output>>
    /** Only for the compiler. */
    readonly types?: { readonly input: Input; readonly output: Output } | undefined
  }
}

/** The result of a validator: the value to use, or the issues. */
export type SchemaResult<Output> =
  { readonly value: Output; readonly issues?: undefined } | { readonly issues: readonly SchemaIssue[] }

/** One thing that is wrong with a value, and where. */
export interface SchemaIssue {
  /** What is wrong. */
  readonly message: string
  /** The keys that lead to it. */
  readonly path?: readonly (PropertyKey | { readonly key: PropertyKey })[] | undefined
}

/** Any Standard Schema that returns a `T`: a receiver's. */
export type Schema<T> = StandardSchema<unknown, T>

/** Any Standard Schema that takes a `T`: a sender's. */
export type InputSchema<T> = StandardSchema<T, unknown>

export const standardSchema: Rule = (value) => {
  const standard = (value as { '~standard'?: { version?: unknown; validate?: unknown } } | null | undefined)?.[
    '~standard'
  ]
  return standard?.version === 1 && typeof standard.validate === 'function'
    ? undefined
    : 'must be a Standard Schema, version 1 (an object with "~standard"); the id of a schema is the option schemaId'
}

const ONE_SCHEMA = notHere('the schema of its messages is the option schema')

/** Topics and queues have no schemas of calls. */
export const NOT_OF_CALLS: Rules = { requests: ONE_SCHEMA, replies: ONE_SCHEMA, messages: ONE_SCHEMA }

const MOST_ID_BYTES = 256

/** The id of a schema, as the core takes it. */
export const schemaId: Rule = (value) =>
  typeof value === 'string' && value !== '' && Buffer.byteLength(value) <= MOST_ID_BYTES && !value.includes('\0')
    ? undefined
    : `must be text of 1 to ${MOST_ID_BYTES} bytes without NUL`

/**
 * The value as the schema returns it; a promise only if the validator returns one.
 *
 * @throws {RingbellError} `ERR_RINGBELL_SCHEMA`, also as a rejection.
 */
export function validated<T>(schema: Schema<T>, value: unknown, what: string): T | Promise<T> {
  let result: SchemaResult<T> | Promise<SchemaResult<T>>
  let later: Promise<SchemaResult<T>> | undefined
  try {
    result = schema['~standard'].validate(value)
    later = isThenable(result) ? followed(result) : undefined
  } catch (cause) {
    throw failedOn(what, cause)
  }
  if (later === undefined) return accepted(result as SchemaResult<T>, what)
  return later.then(
    (settled) => accepted(settled, what),
    (cause: unknown) => {
      throw failedOn(what, cause)
    },
  )
}

/** A validator is user code. It may throw anything, and what it returns may be anything. */
function failedOn(what: string, cause: unknown): RingbellError {
  return new RingbellError('ERR_RINGBELL_SCHEMA', `The schema of a ${what} failed: ${reason(cause)}`, { cause })
}

/** Like `validated`, but at once: an asynchronous validator is an error. */
export function validatedNow<T>(schema: Schema<T>, value: unknown, what: string): T {
  const result = validated(schema, value, what)
  if (!isThenable(result)) return result
  result.catch(() => {})
  throw new RingbellError('ERR_RINGBELL_SCHEMA', `The schema of a ${what} must answer at once, not with a promise.`)
}

/** The `then` of the value may be user code: call it only through `followed`. */
export function isThenable<T>(value: T | PromiseLike<T>): value is PromiseLike<T> {
  return typeof value === 'object' && value !== null && typeof (value as PromiseLike<T>).then === 'function'
}

/**
 * A promise that settles once, even if `value` has a `then` of its own that calls back twice. A plain native promise is
 * returned as it is: wrapping it would cost two more jobs, and a reply would then come after the endpoint's next poll.
 */
export function followed<T>(value: PromiseLike<T>): Promise<T> {
  return isPlainPromise(value) ? value : new Promise((resolve) => resolve(value))
}

function isPlainPromise<T>(value: PromiseLike<T>): value is Promise<T> {
  // An object that only inherits from it throws at once.
  return Object.getPrototypeOf(value) === Promise.prototype && !Object.hasOwn(value, 'then')
}

function accepted<T>(result: SchemaResult<T>, what: string): T {
  let cause: readonly SchemaIssue[]
  let why: string
  try {
    if (typeof result !== 'object' || result === null || !('value' in result || 'issues' in result))
      throw new TypeError(`it returned ${shownValue(result)} instead of { value } or { issues }`)
    if (result.issues === undefined) return (result as { value: T }).value
    cause = result.issues
    why = told(cause)
  } catch (error) {
    throw failedOn(what, error)
  }
  throw new RingbellError('ERR_RINGBELL_SCHEMA', `A ${what} does not match its schema: ${why}`, { cause })
}

const ISSUES_TOLD = 3

function told(issues: readonly SchemaIssue[]): string {
  const some = issues.slice(0, ISSUES_TOLD).map(({ message, path = [] }) => {
    const keys = path.map((one) => String(typeof one === 'object' ? one.key : one))
    return keys.length === 0 ? message : `${keys.join('.')}: ${message}`
  })
  const more = issues.length - some.length
  return some.length === 0 ? inspect(issues) : some.join('; ') + (more > 0 ? `; and ${more} more` : '')
}
