/** For commands that waited in vain: who announces the name, though as something else. */
import { kindMismatch } from '../bus/kind-mismatch.js'
import type { Bus, Service } from '../index.js'

/** `; process 12 announces …`, to end a sentence with; nothing if somebody is what is wanted, or nobody is there. */
export function mismatch({ services }: Bus, name: string, kind: string): string {
  let all: Service[]
  try {
    all = services.list().filter((service) => service.name === name)
  } catch {
    // It is asked for to say more of a wait that has ended: that error is the one to be told.
    return ''
  }
  const found = kindMismatch(all, kind)
  return found === undefined ? '' : `; ${found}`
}
