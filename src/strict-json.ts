/**
 * Writes options and metadata as JSON, for the core and for records. What JSON would change in silence is refused, with the path
 * of the value. These parts of JSON stay: `toJSON` is called (a `Date` becomes a string), properties that are `undefined` are
 * left out, instances of classes become plain objects, `-0` becomes 0. The codec `json` has nothing to do with this.
 */
import { types } from 'node:util'
import { isBytes } from './brand.js'
import { isRingbellError, reason } from './errors.js'
import { invalid } from './invalid.js'

/** The core reads JSON with at most 127 levels. A record has some around the metadata. */
const MOST_LEVELS = 100

const LONE_SURROGATE = /\p{Surrogate}/u

/**
 * The value as JSON text; `null` for `undefined`.
 *
 * @throws {RingbellError} `ERR_RINGBELL_INVALID_OPTION` with the path.
 */
export function strictJson(value: unknown, option: string): string {
  try {
    const json: string | undefined = JSON.stringify(value, refusing(option))
    return json ?? 'null'
  } catch (cause) {
    if (isRingbellError(cause)) throw cause
    throw invalid(option, value, `cannot be carried as JSON: ${reason(cause)}`, cause)
  }
}

/** Where an object stands that is being written. */
interface Place {
  readonly value: object
  readonly path: string
  readonly above: Place | undefined
  readonly level: number
}

/** A replacer for `JSON.stringify` that throws for what JSON cannot carry. It sees each value after its `toJSON`. */
function refusing(root: string): (this: object, key: string, value: unknown) => unknown {
  const places = new Map<object, Place>()
  return function (key, value) {
    const place = places.get(this)
    const path = place === undefined ? root : `${place.path}${step(this, key)}`
    const level = (place?.level ?? 0) + 1
    const before: unknown = (this as Record<string, unknown>)[key]
    const why = whyNot(before, value, Array.isArray(this)) ?? (LONE_SURROGATE.test(key) ? HALF : undefined)
    if (why !== undefined) throw invalid(path, before, why)
    if (typeof value !== 'object' || value === null) return value
    for (let above = place; above !== undefined; above = above.above)
      if (above.value === value)
        throw invalid(path, value, `refers back to ${above.path}, and JSON cannot carry a cycle`)
    if (level > MOST_LEVELS) throw invalid(root, value, `has more than ${MOST_LEVELS} levels; make it flatter`)
    places.set(value, { value, path, above: place, level })
    return value
  }
}

const HALF = 'has half of a surrogate pair, which JSON cannot carry; use String.prototype.toWellFormed()'

/** A key as a part of a path: `.a`, `[2]`, `["a b"]`. */
function step(holder: object, key: string): string {
  if (Array.isArray(holder)) return `[${key}]`
  return /^[\p{ID_Start}$_][\p{ID_Continue}$]*$/u.test(key) ? `.${key}` : `[${JSON.stringify(key)}]`
}

/** Why JSON cannot carry a value, as an end of `it …`; nothing if it can. `before`: the value before its `toJSON`. */
function whyNot(before: unknown, value: unknown, inArray: boolean): string | undefined {
  switch (typeof value) {
    case 'function':
    case 'symbol':
    case 'bigint':
      return `is a ${typeof value}, which cannot be carried as JSON`
    case 'undefined':
      return inArray ? 'is undefined in a list, which JSON would change to null' : undefined
    case 'number':
      return Number.isFinite(value) ? undefined : 'is not a finite number, which JSON would change to null'
    case 'string':
      return LONE_SURROGATE.test(value) ? HALF : undefined
    default:
      return isBytes(before) ? ofClass(before) : value === null ? noDate(before) : exotic(value as object)
  }
}

/** `null` that `toJSON` made of a date that is no date. */
function noDate(before: unknown): string | undefined {
  return types.isDate(before) ? 'is an invalid Date, which JSON would change to null' : undefined
}

/**
 * Objects that keep what they are in a place that JSON does not see, so that it would write `{}` or numbered properties: a
 * `Map`, `Set`, `RegExp`, `Error`, `Promise`, typed array. They have a tag of their own.
 */
function exotic(value: object): string | undefined {
  if (Array.isArray(value)) return undefined
  const tag = Object.prototype.toString.call(value).slice('[object '.length, -1)
  // JSON writes the objects of these primitives as the primitives.
  return ['Object', 'Number', 'String', 'Boolean'].includes(tag) ? undefined : ofClass(value, tag)
}

function ofClass(value: object, tag = value.constructor.name): string {
  const article = /^[AEIOU]/.test(tag) ? 'an' : 'a'
  const advice = types.isMap(value)
    ? '; use Object.fromEntries()'
    : types.isSet(value)
      ? '; use an array'
      : isBytes(value)
        ? '; use a string, such as base64'
        : ''
  return `is ${article} ${tag}, which cannot be carried as JSON${advice}`
}
