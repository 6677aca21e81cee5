/** The error of a part of ringbell whose optional peer dependency is not installed. */
import { reason, RingbellError } from './errors.js'

/** @param part As users import it: `ringbell/fetch`. */
export function missingPackage(part: string, name: string, cause: unknown): RingbellError {
  return new RingbellError(
    'ERR_RINGBELL_MISSING_PACKAGE',
    `${part} needs the package ${name}, which cannot be loaded; npm install ${name} (${reason(cause)})`,
    { cause },
  )
}
