/** For commands whose wait ended without a result: says that the name is announced as another kind. */
import { kindMismatch } from '../bus/kind-mismatch.js'
import type { Bus, Service } from '../index.js'

/** The end of a sentence, such as `; process 12 announces …`; empty if a service has the wanted kind, or there is none. */
export function mismatch({ services }: Bus, name: string, kind: string): string {
  let all: Service[]
  try {
    all = services.list().filter((service) => service.name === name)
  } catch {
    // This only adds to the error of a wait that has ended. An error of its own must not replace that one.
    return ''
  }
  const found = kindMismatch(all, kind)
  return found === undefined ? '' : `; ${found}`
}
