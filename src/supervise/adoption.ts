/**
 * Instances that go on although their manager is dead: who they are, and how another manager takes hold of them. A member says in
 * its record who has started it. Of another instance its environment says so, which only its own user and root can read.
 */
import { readFileSync } from 'node:fs'
import type { Service } from '../index.js'
import { closedAfter, failureOf } from '../closing.js'
import { debug } from '../diagnostics.js'
import { MEMBER_VARIABLE } from './names.js'
import { openProcess, type ProcessHandle } from './process.js'
import { memberInfo, type Roster } from './roster.js'

/** What a manager can take over. */
export interface Orphans {
  readonly processes: ProcessHandle[]
  /** The ids of their managers, which are dead. */
  readonly managers: ReadonlySet<string>
}

/** At most so many. One that ends meanwhile, or cannot be held, is left out. */
export function orphansIn(roster: Roster, most: number): Orphans {
  const living = roster.managers
  const processes: ProcessHandle[] = []
  const managers = new Set<string>()
  const pids = new Set<number>()
  for (const service of [...roster.members, ...roster.instances].map((one) => one.service)) {
    if (processes.length === most) break
    if (pids.has(service.pid)) continue
    pids.add(service.pid)
    const failure = failureOf(() => {
      const held = orphan(service, living)
      if (held === undefined) return
      processes.push(held.process)
      managers.add(held.manager)
    })
    if (failure !== undefined) debug('adopting process %d: %s', service.pid, failure)
  }
  return { processes, managers }
}

function orphan(
  service: Service,
  living: ReadonlySet<string>,
): { process: ProcessHandle; manager: string } | undefined {
  const { role, manager: known, draining } = memberInfo(service)
  if (draining || (role !== undefined && (known === undefined || living.has(known)))) return undefined
  const process = openProcess(service)
  try {
    const manager = known ?? starterOf(service.pid)
    // What was read was its own: it is alive after that.
    if (manager !== undefined && !living.has(manager) && process.isAlive()) return { process, manager }
  } catch (error) {
    throw closedAfter(error, process)
  }
  process.close()
  return undefined
}

/** The id of the manager that has started the process. */
function starterOf(pid: number): string | undefined {
  const start = `${MEMBER_VARIABLE}=`
  const variable = readFileSync(`/proc/${pid}/environ`, 'utf8')
    .split('\0')
    .find((one) => one.startsWith(start))
  if (variable === undefined) return undefined
  const { manager } = JSON.parse(variable.slice(start.length)) as { manager?: unknown }
  return typeof manager === 'string' ? manager : undefined
}
