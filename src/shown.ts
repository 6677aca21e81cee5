/**
 * How objects show themselves (`util.inspect`, `console.log`): by the members that their users know. State is private, so
 * without this an object would show nothing, or the fields of a base class. Showing never throws: what cannot be read, because
 * the object is closed, is left out.
 */
import { inspect, type InspectOptions } from 'node:util'

/** What `util.inspect` passes on. */
export interface ShownOptions extends InspectOptions {
  stylize?(text: string, style: 'special'): string
}

/** `name` and `fields`. `depth`: how many more levels to show. */
export function shown(name: string, fields: object, depth: number | null, options: ShownOptions): string {
  const stylized = (text: string): string => options.stylize?.(text, 'special') ?? text
  if (depth !== null && depth < 0) return stylized(`[${name}]`)
  return `${name} ${inspect(fields, { ...options, depth })}`
}

/** Those of the members that can be read now. */
export function membersOf<T extends object>(object: T, ...names: (keyof T)[]): Partial<T> {
  const members: Partial<T> = {}
  for (const name of names) {
    const value = attempt(() => object[name])
    if (value !== undefined) members[name] = value
  }
  return members
}

/** The result, or nothing if it throws. */
export function attempt<V>(read: () => V): V | undefined {
  try {
    return read()
  } catch {
    return undefined
  }
}
