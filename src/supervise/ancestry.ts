/** Which process has started which, by /proc; and the pid namespace of this one, because a number means nothing in another. */
import { readFileSync, statSync } from 'node:fs'
import type { Service } from '../index.js'

/** The pid namespace in which the pid of a record counts; `undefined`: the record does not say. */
export function pidNamespaceOf({ record }: Service): number | undefined {
  const { pidNamespace } = record
  return typeof pidNamespace === 'number' ? pidNamespace : undefined
}

/** That of this process; `undefined`: /proc does not say. */
export function ownPidNamespace(): number | undefined {
  try {
    return statSync('/proc/self/ns/pid').ino
  } catch {
    return undefined
  }
}

/** Whether a process has started the other one, or one that did. It says what is so now, for a text. */
export function hasStarted(ancestor: number, service: Service): boolean {
  if (pidNamespaceOf(service) !== ownPidNamespace()) return false
  for (let pid = service.pid; pid > 1;) {
    pid = parentOf(pid)
    if (pid === ancestor) return true
  }
  return false
}

function parentOf(pid: number): number {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
    // The second field is the command in parentheses, which may contain anything.
    return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1])
  } catch {
    // It has ended.
    return 0
  }
}
