/** Service groups of tests: they run the fixture worker.mjs, and end with their test. */
import { fileURLToPath } from 'node:url'
import type { Bus } from 'ringbell'
import { ServiceGroup, type ServiceGroupOptions } from 'ringbell/supervise'
import type { Place } from './place.js'

export const WORKER = fileURLToPath(new URL('../fixtures/supervise/worker.mjs', import.meta.url))

/** What a worker does. */
export type Mode = 'member' | 'serve' | 'leave' | 'silent' | 'crash' | 'deaf' | 'mute' | 'ticks' | 'http'

/** A group of workers, which is stopped before the place looks what was left behind. */
export function groupOf(at: Place, bus: Bus, mode: Mode, options: Partial<ServiceGroupOptions> = {}): ServiceGroup {
  const group = new ServiceGroup(bus, {
    service: 'price',
    command: process.execPath,
    args: [WORKER, 'price', mode],
    env: { IPC_BUS_DIR: at.path, RINGBELL_TEST_PARENT: String(process.pid) },
    readyTimeout: 60_000,
    stdio: 'ignore',
    ...options,
  })
  at.onEnd(() => group.stop({ grace: 1000 }))
  return group
}

/** The processes of a group, in the order of their places. */
export const pidsOf = (group: ServiceGroup): number[] => group.instances.flatMap(({ pid }) => pid ?? [])

/** The events of a group as they come, by name. */
export function heard(group: ServiceGroup): string[] {
  const events: string[] = []
  for (const name of ['ready', 'primary', 'exit', 'respawn', 'stalled', 'failed', 'stopped'] as const)
    group.on(name, () => events.push(name))
  return events
}
