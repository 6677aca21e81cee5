/** Standard Schemas made by hand, as a library would make them. */
import type { SchemaResult, StandardSchema } from 'ringbell'

export function schemaOf<In, Out>(
  validate: (value: unknown) => SchemaResult<Out> | Promise<SchemaResult<Out>>,
): StandardSchema<In, Out> {
  return { '~standard': { version: 1, vendor: 'test', validate } }
}

/** Takes a text of digits and returns the number. It refuses its own output, so a second use shows. */
export const digits: StandardSchema<string, number> = schemaOf((value) =>
  typeof value === 'string' && /^\d+$/.test(value)
    ? { value: Number(value) }
    : { issues: [{ message: 'no digits', path: ['a', { key: 'b' }] }] },
)

/** Fills in what is missing. */
export const withDefault: StandardSchema<{ n?: number }, { n: number }> = schemaOf((value) => ({
  value: { n: 7, ...(value as object) },
}))

/** Answers with a promise. */
export const later: StandardSchema<string, number> = schemaOf(async (value) => digits['~standard'].validate(value))

/** Throws instead of answering. */
export const broken: StandardSchema<string, string> = schemaOf(() => {
  throw new TypeError('broken')
})
