/**
 * Rules for options. A broken one throws at once, with the option's name, the value and the rule. An unknown option is
 * an error too: a misspelled `overflow` must not become the default in silence. `undefined` always means "not given".
 */
import { inspect } from 'node:util'
import { RingbellError } from './errors.js'

/** The rule in words when `value` breaks it, otherwise nothing. */
export type Rule = (value: unknown) => string | undefined

/** One rule for each option that is allowed. */
export type Rules = Readonly<Record<string, Rule>>

/** @throws {RingbellError} `ERR_RINGBELL_INVALID_OPTION`. */
export function check(options: unknown, rules: Rules): void {
  if (options === undefined) return
  if (typeof options !== 'object' || options === null || Array.isArray(options))
    throw invalid('options', options, 'must be an object')
  for (const [name, value] of Object.entries(options)) {
    if (!Object.hasOwn(rules, name))
      throw invalid(name, value, `is not an option here; there are ${Object.keys(rules).join(', ')}`)
    if (value === undefined) continue
    const broken = rules[name]?.(value)
    if (broken !== undefined) throw invalid(name, value, broken)
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

export function powerOfTwo(least: number, most: number): Rule {
  return (value) => {
    const fits =
      Number.isInteger(value) &&
      (value as number) >= least &&
      (value as number) <= most &&
      Number.isInteger(Math.log2(value as number))
    return fits ? undefined : `must be a power of two from ${least} to ${most} bytes`
  }
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

export const stringMap: Rule = (value) =>
  plainObject(value) === undefined && Object.values(value as object).every((one) => typeof one === 'string')
    ? undefined
    : 'must be an object of strings'

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

/** One of several rules has to hold; the words are for all of them together. */
export function either(words: string, ...rules: readonly Rule[]): Rule {
  return (value) => (rules.some((rule) => rule(value) === undefined) ? undefined : words)
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
