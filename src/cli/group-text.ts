/** Instances of groups as people read them: one line each, in columns. Used by `ps`, `top`, `restart` and `stop`. */
import type { GroupInstance, InstanceState } from '../supervise/index.js'
import type { Paint, Style } from './paint.js'
import { columns } from './table.js'

const STYLES: Partial<Record<InstanceState, Style>> = {
  primary: 'green',
  standby: 'cyan',
  ready: 'cyan',
  starting: 'yellow',
  backoff: 'yellow',
  stalled: 'red',
  failed: 'red',
  stopping: 'dim',
  stopped: 'dim',
}

export function stateText(state: InstanceState, paint: Paint): string {
  const style = STYLES[state]
  return style === undefined ? state : paint(style, state)
}

export function instanceLines(instances: readonly GroupInstance[], paint: Paint): string[] {
  const head = ['SERVICE', 'INSTANCE', 'STATE', 'EPOCH', 'PID', 'UPTIME', 'RESTARTS', 'MANAGER'].map((one) =>
    paint('dim', one),
  )
  const rows = instances.map(({ service, instance, state, epoch, pid, uptime, restarts, manager }) => [
    service,
    instance,
    stateText(state, paint),
    epoch === undefined || epoch === 0 ? '-' : String(epoch),
    pid === undefined ? '-' : String(pid),
    pid === undefined ? '-' : age(uptime),
    String(restarts),
    manager === undefined ? '-' : manager.slice(0, 8),
  ])
  return columns([head, ...rows], [3, 4, 5, 6])
}

/** `5s`, `3m`, `2h 5m`, `3d 4h`. */
export function age(milliseconds: number): string {
  const seconds = Math.floor(milliseconds / 1000)
  if (seconds < 60) return `${seconds}s`
  const minutes = Math.floor(seconds / 60)
  if (minutes < 60) return `${minutes}m`
  const hours = Math.floor(minutes / 60)
  return hours < 24 ? `${hours}h ${minutes % 60}m` : `${Math.floor(hours / 24)}d ${hours % 24}h`
}
