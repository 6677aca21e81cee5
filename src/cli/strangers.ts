/** For commands that waited in vain: who announces the name, though as something else. */
import type { Bus } from '../index.js'

/** `; process 12 announces it as a topic`, to end a sentence with; nothing if somebody is what is wanted, or nobody is there. */
export function strangers({ services }: Bus, name: string, kind: string): string {
  const all = services.list().filter((service) => service.name === name)
  const [first] = all
  if (first === undefined || all.some((one) => one.kind === kind)) return ''
  return `; process ${first.pid} announces it as a ${first.kind}`
}
