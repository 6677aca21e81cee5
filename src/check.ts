/**
 * Rules for options. A broken one throws at once, with the option's name, the value and the rule. An unknown option is
 * an error too: a misspelled `overflow` must not become the default in silence. `undefined` always means "not given".
 */
import { inspect } from 'node:util'
import { reason, RingbellError } from './errors.js'

/** The rule in words when `value` breaks it, otherwise nothing. */
export type Rule = (value: unknown) => string | undefined

/** Milliseconds that a timer of Node's may last. */
export const LONGEST_MS = 2 ** 31 - 1

/** No option has this name: under it, the core gets the names of the options that are judged here. */
const OTHERS = ''

/** One rule for each option that is allowed. */
export type Rules = Readonly<Record<string, Rule>>

/** @throws {RingbellError} `ERR_RINGBELL_INVALID_OPTION`. */
export function check(options: unknown, rules: Rules): void {
  for (const [name, value] of entries(options)) {
    if (!Object.hasOwn(rules, name))
      throw invalid(name, value, `is not an option here; there are ${Object.keys(rules).join(', ')}`)
    checkOne(rules, name, value)
  }
}

/**
 * Checks the options that `own` has rules for, and writes the others as JSON: those the core knows, and checks. `more` is what
 * the core is told besides. The names of `own` go along, so that the core can list every option to somebody who misspelled one.
 *
 * @throws {RingbellError} `ERR_RINGBELL_INVALID_OPTION`.
 */
export function coreJson(options: unknown, own: Rules, more: object = {}): string {
  const others = entries(options).filter(([name]) => !Object.hasOwn(own, name))
  for (const [name, value] of entries(options)) if (Object.hasOwn(own, name)) checkOne(own, name, value)
  const given = [...others, ...Object.entries({ ...more, [OTHERS]: Object.keys(own) })].filter(
    ([, value]) => value !== undefined,
  )
  return `{${given.map(([name, value]) => `${JSON.stringify(name)}:${jsonOf(value, name)}`).join(',')}}`
}

function entries(options: unknown): [name: string, value: unknown][] {
  if (options === undefined) return []
  if (typeof options !== 'object' || options === null || Array.isArray(options))
    throw invalid('options', options, 'must be an object')
  return Object.entries(options)
}

function checkOne(rules: Rules, name: string, value: unknown): void {
  const broken = value === undefined ? undefined : rules[name]?.(value)
  if (broken !== undefined) throw invalid(name, value, broken)
}

/**
 * An option's value as JSON. What JSON cannot carry is an error, and does not get lost.
 *
 * @throws {RingbellError} `ERR_RINGBELL_INVALID_OPTION` with the path.
 */
export function jsonOf(value: unknown, option: string): string {
  try {
    const json: string | undefined = JSON.stringify(value, carried(option))
    return json ?? 'null'
  } catch (cause) {
    if (cause instanceof RingbellError) throw cause
    throw new RingbellError(
      'ERR_RINGBELL_INVALID_OPTION',
      `Option ${option} must be something that JSON can carry: ${reason(cause)}`,
      { cause },
    )
  }
}

/**
 * JSON drops functions and symbols without a word, and makes `null` of numbers that are not finite. What is `undefined` it drops as
 * well, which is what optional properties are for. Called with what `toJSON` has made of each value.
 */
function carried(root: string): (this: unknown, key: string, value: unknown) => unknown {
  const paths = new Map<unknown, string>()
  return function (key, value) {
    const above = paths.get(this)
    const path = above === undefined ? root : Array.isArray(this) ? `${above}[${key}]` : `${above}.${key}`
    if (typeof value === 'function' || typeof value === 'symbol' || typeof value === 'bigint')
      throw invalid(path, value, `is a ${typeof value}, which JSON cannot carry`)
    if (typeof value === 'number' && !Number.isFinite(value))
      throw invalid(path, value, 'is not a finite number, and JSON cannot carry it')
    if (typeof value === 'object') paths.set(value, path)
    return value
  }
}

export function invalid(name: string, value: unknown, rule: string): RingbellError {
  const shown = inspect(value, { depth: 1, maxStringLength: 100, maxArrayLength: 5, breakLength: Infinity })
  return new RingbellError('ERR_RINGBELL_INVALID_OPTION', `Option ${name} (${shown}) ${rule}.`)
}

export function oneOf(...allowed: readonly string[]): Rule {
  return (value) =>
    allowed.includes(value as string) ? undefined : `must be one of ${allowed.map((one) => `'${one}'`).join(', ')}`
}

export function integer(least: number, most: number): Rule {
  return (value) =>
    Number.isInteger(value) && (value as number) >= least && (value as number) <= most
      ? undefined
      : `must be a whole number from ${least} to ${most}`
}

export function duration(least: number, most: number, unit: string): Rule {
  return (value) =>
    typeof value === 'number' && value >= least && value <= most
      ? undefined
      : `must be a number of ${unit} from ${least} to ${most}`
}

export const flag: Rule = (value) => (typeof value === 'boolean' ? undefined : 'must be true or false')

export function text(most: number): Rule {
  return (value) =>
    typeof value === 'string' && value.length > 0 && value.length <= most
      ? undefined
      : `must be a string of 1 to ${most} characters`
}

export function listOf(rule: Rule, what: string): Rule {
  return (value) =>
    Array.isArray(value) && value.every((one) => rule(one) === undefined) ? undefined : `must be a list of ${what}`
}

export const plainObject: Rule = (value) =>
  typeof value === 'object' && value !== null && !Array.isArray(value)
    ? undefined
    : 'must be an object that JSON can carry'

/** For what another place judges, in better words. */
export const anything: Rule = () => undefined

export const signal: Rule = (value) => (value instanceof AbortSignal ? undefined : 'must be an AbortSignal')

/**
 * Arrays of bytes, also those of another realm.
 *
 * @throws {RingbellError} `ERR_RINGBELL_INVALID_OPTION`.
 */
export function checkBytes(option: string, bytes: unknown): void {
  if (!ArrayBuffer.isView(bytes) || (bytes as Uint8Array).BYTES_PER_ELEMENT !== 1)
    throw invalid(option, bytes, 'must be a Uint8Array')
}

/** An object of options of its own: a broken rule is told with the option's full name. */
export function nested(name: string, rules: Rules): Rule {
  return (value) => {
    if (plainObject(value) !== undefined) return 'must be an object'
    for (const [inner, one] of Object.entries(value as object)) {
      if (!Object.hasOwn(rules, inner)) return `has no option ${inner}; there are ${Object.keys(rules).join(', ')}`
      const broken = one === undefined ? undefined : rules[inner]?.(one)
      if (broken !== undefined) return `is wrong: ${name}.${inner} ${broken}`
    }
    return undefined
  }
}
