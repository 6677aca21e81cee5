/**
 * Rules for options. A value that breaks its rule throws at once. The error names the option, the value and the rule.
 * An unknown option is an error too, because a misspelled `overflow` must not silently become the default. `undefined`
 * always means "not given".
 */
import { isBytes, isSignal } from './brand.js'
import { invalid } from './invalid.js'
import { strictJson } from './strict-json.js'

/** Returns the rule in words if `value` breaks it, otherwise nothing. */
export type Rule = (value: unknown) => string | undefined

/** Rules of options that are none, and never listed. */
const elsewhere = new WeakSet<Rule>()

/** For an option of something else, which a user might expect here: `advice` says what to use. */
export function notHere(advice: string): Rule {
  const rule: Rule = () => `is not an option here; ${advice}`
  elsewhere.add(rule)
  return rule
}

function namesOf(rules: Rules): string[] {
  return Object.entries(rules).flatMap(([name, rule]) => (elsewhere.has(rule) ? [] : [name]))
}

/** The longest time in milliseconds that a Node timer accepts. */
export const LONGEST_MS = 2 ** 31 - 1

/** No option has this name. Under it, the core gets the names of the options that are checked here. */
const OTHERS = ''

/** One rule for each option that is allowed. */
export type Rules = Readonly<Record<string, Rule>>

/**
 * Checks options. `within` is the path of the object that has them, with a dot at its end.
 *
 * @throws {RingbellError} `ERR_RINGBELL_INVALID_OPTION`.
 */
export function check(options: unknown, rules: Rules, within = ''): void {
  for (const [name, value] of entries(options, within === '' ? 'options' : within.slice(0, -1))) {
    if (!Object.hasOwn(rules, name))
      throw invalid(within + name, value, `is not an option here; the options are ${namesOf(rules).join(', ')}`)
    checkOne(rules, name, value, within)
  }
}

/**
 * Checks the options that `own` has rules for, and writes the others as JSON. The core knows those and checks them. `more` makes
 * further fields for the core from options that are an object. The names of `own` go along, so that the core can list every option when one is misspelled.
 *
 * @throws {RingbellError} `ERR_RINGBELL_INVALID_OPTION`.
 */
export function coreJson<O>(options: O, own: Rules, more?: (options: O) => object): string {
  const others = entries(options).filter(([name]) => !Object.hasOwn(own, name))
  for (const [name, value] of entries(options)) if (Object.hasOwn(own, name)) checkOne(own, name, value)
  const given = [...others, ...Object.entries({ ...more?.(options), [OTHERS]: namesOf(own) })].filter(
    ([, value]) => value !== undefined,
  )
  return `{${given.map(([name, value]) => `${JSON.stringify(name)}:${strictJson(value, name)}`).join(',')}}`
}

function entries(options: unknown, path = 'options'): [name: string, value: unknown][] {
  if (options === undefined) return []
  // An array, or bytes, have methods with the names of options.
  if (typeof options !== 'object' || options === null || Array.isArray(options) || ArrayBuffer.isView(options))
    throw invalid(path, options, 'must be an object')
  return Object.entries(options)
}

function checkOne(rules: Rules, name: string, value: unknown, within = ''): void {
  const broken = value === undefined ? undefined : rules[name]?.(value)
  if (broken !== undefined) throw invalid(within + name, value, broken)
}

/**
 * An argument. Unlike an option, it must be there.
 *
 * @throws {RingbellError} `ERR_RINGBELL_INVALID_OPTION`.
 */
export function checkArgument(name: string, value: unknown, rule: Rule): void {
  const broken = rule(value)
  if (broken !== undefined) throw invalid(name, value, broken)
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

export const plainObject: Rule = (value) =>
  typeof value === 'object' && value !== null && !Array.isArray(value)
    ? undefined
    : 'must be an object that JSON can carry'

/** For an option that is checked elsewhere, with a better error text. */
export const anything: Rule = () => undefined

export const bytesOnly: Rule = (value) => (isBytes(value) ? undefined : 'must be a Uint8Array')

export const signal: Rule = (value) => (isSignal(value) ? undefined : 'must be an AbortSignal')

/**
 * An object with options of its own. The error for a broken rule has the full name of the option.
 *
 * @throws {RingbellError} `ERR_RINGBELL_INVALID_OPTION` for one of these options.
 */
export function nested(name: string, rules: Rules): Rule {
  return (value) => {
    if (plainObject(value) !== undefined) return 'must be an object'
    check(value, rules, `${name}.`)
    return undefined
  }
}
