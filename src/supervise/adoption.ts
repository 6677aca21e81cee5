/**
 * Instances that go on although their manager is dead: who they are, and how another manager takes hold of them. A member says in
 * its record who has started it. Of another instance its environment says so, which only its own user and root can read.
 *
 * One manager at a time chooses: it holds the claim of the managers of that service until the others can see what it has taken.
 */
import { readFileSync } from 'node:fs'
import type { Bus, Service } from '../index.js'
import { closedAfter, failureOf } from '../closing.js'
import { debug } from '../diagnostics.js'
import { managerName, MEMBER_VARIABLE } from './names.js'
import { openProcess, type ProcessHandle } from './process.js'
import { memberInfo, type Roster } from './roster.js'

/** An instance that can be taken over. */
interface Orphan {
  readonly process: ProcessHandle
  /** The id of its manager, which is dead, and its place there. */
  readonly manager: string
  readonly place: number
}

/** What a manager takes over. */
export interface Adoption {
  /** By place. */
  readonly processes: ReadonlyMap<number, ProcessHandle>
  /** The ids of their managers. */
  readonly managers: ReadonlySet<string>
  /** To be called when this manager was announced with those ids, or could not be. */
  release(): void
}

const NOTHING: Adoption = { processes: new Map(), managers: new Set(), release: () => {} }

/** Of a manager with so many places. Rejects with an `AbortError`, and as `bus.claim` does. */
export async function adopt(bus: Bus, roster: Roster, places: number, signal: AbortSignal): Promise<Adoption> {
  const seen = orphansIn(roster, 1)
  for (const { process } of seen) process.close()
  if (seen.length === 0) return NOTHING
  const claim = await bus.claim(managerName(roster.service), { signal })
  try {
    // Another manager may have taken them meanwhile.
    roster.refresh()
    const orphans = orphansIn(roster, places)
    return {
      processes: placed(orphans, places),
      managers: new Set(orphans.map(({ manager }) => manager)),
      release: () => claim.releaseNow(),
    }
  } catch (error) {
    claim.releaseNow()
    throw error
  }
}

/** Each in its own place, if that is free. */
function placed(orphans: readonly Orphan[], places: number): Map<number, ProcessHandle> {
  const processes = new Map<number, ProcessHandle>()
  const others = orphans.filter(({ place, process }) => {
    if (!(place < places) || processes.has(place)) return true
    processes.set(place, process)
    return false
  })
  for (let place = 0; others.length > 0; place++) {
    if (processes.has(place)) continue
    const [next] = others.splice(0, 1)
    if (next !== undefined) processes.set(place, next.process)
  }
  return processes
}

/** At most so many. One that ends meanwhile, or cannot be held, is left out. */
function orphansIn(roster: Roster, most: number): Orphan[] {
  const living = roster.managers
  const orphans: Orphan[] = []
  const pids = new Set<number>()
  for (const service of [...roster.members, ...roster.instances].map((one) => one.service)) {
    if (orphans.length === most) break
    if (pids.has(service.pid)) continue
    pids.add(service.pid)
    const failure = failureOf(() => {
      const held = orphan(service, living)
      if (held !== undefined) orphans.push(held)
    })
    if (failure !== undefined) debug('adopting process %d: %s', service.pid, failure)
  }
  return orphans
}

function orphan(service: Service, living: ReadonlySet<string>): Orphan | undefined {
  const { role, manager: known, instance, draining } = memberInfo(service)
  if (draining || (role !== undefined && (known === undefined || living.has(known)))) return undefined
  const process = openProcess(service)
  try {
    const starter = known === undefined ? starterOf(service.pid) : { manager: known, instance }
    // What was read was its own: it is alive after that.
    if (starter !== undefined && !living.has(starter.manager) && process.isAlive())
      return { process, manager: starter.manager, place: Number(starter.instance ?? Number.NaN) }
  } catch (error) {
    throw closedAfter(error, process)
  }
  process.close()
  return undefined
}

/** The manager that has started the process, and its place there. */
function starterOf(pid: number): { manager: string; instance: string | undefined } | undefined {
  const start = `${MEMBER_VARIABLE}=`
  const variable = readFileSync(`/proc/${pid}/environ`, 'utf8')
    .split('\0')
    .find((one) => one.startsWith(start))
  if (variable === undefined) return undefined
  const { manager, instance } = JSON.parse(variable.slice(start.length)) as { manager?: unknown; instance?: unknown }
  if (typeof manager !== 'string') return undefined
  return { manager, instance: typeof instance === 'string' ? instance : undefined }
}
