/**
 * The other places where a bus of this user may be. The environment decides which one is used. So a service and a shell,
 * or a login and a cron job, can have two buses and never find each other.
 */
import { Bus, type Check } from '../../index.js'
import { counted } from '../figures.js'

/** Looks for services in the default places, except on the examined bus if there is one. */
export async function otherPlaces(examined: Bus | undefined): Promise<Check> {
  const paths = places().filter((path) => examined?.path !== path && !examined?.path.startsWith(`${path}/`))
  const found: { path: string; services: number }[] = []
  for (const path of paths) {
    const services = await servicesIn(path)
    if (services > 0) found.push({ path, services })
  }
  const [first] = found
  if (first === undefined)
    return { check: 'places', status: 'ok', detail: `no services on another bus (${paths.join(', ')})`, advice: '' }
  return {
    check: 'places',
    status: 'warn',
    detail:
      found.map(({ path, services }) => `${counted(services, 'service')} on ${path}`).join(', ') + ', another bus',
    advice: `processes find each other only on the same bus: give all of them the same IPC_BUS_DIR, such as ${first.path}`,
  }
}

/** All default places, not only the one that this process uses; see `choose` in crates/core/src/bus/directory.rs. */
function places(): string[] {
  const uid = process.geteuid?.() ?? 0
  const { IPC_BUS_DIR: chosen, XDG_RUNTIME_DIR: runtime } = process.env
  return [
    ...new Set([
      ...(chosen === undefined || chosen === '' ? [] : [chosen]),
      ...(runtime === undefined || runtime === '' ? [] : [`${runtime}/ipc-bus`]),
      `/run/user/${uid}/ipc-bus`,
      `/tmp/ipc-bus-${uid}`,
      '/run/ipc-bus',
    ]),
  ]
}

async function servicesIn(path: string): Promise<number> {
  try {
    const bus = await Bus.open({ path, create: false })
    try {
      return bus.services.list().length
    } finally {
      await bus.close()
    }
  } catch {
    // It does not exist, or we may not use it.
    return 0
  }
}
