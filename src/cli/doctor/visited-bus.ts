/**
 * The bus that the doctor examines. If it has no directory, the doctor makes one, because that must work, and removes it
 * again. The doctor leaves nothing behind, and never removes what was there before.
 */
import { rmdir } from 'node:fs/promises'
import { dirname } from 'node:path'
import { Bus, type BusOptions, type Check } from '../../index.js'
import { isMissing } from '../session.js'

export class VisitedBus {
  readonly bus: Bus
  readonly checks: readonly Check[]
  /** Directories that were made, innermost first. */
  readonly #made: readonly string[]

  static async open({ domain, ...root }: BusOptions): Promise<VisitedBus> {
    const hasRoot = await exists(root)
    if (hasRoot && (await exists({ ...root, domain }))) return new VisitedBus(await Bus.open({ ...root, domain }), [])
    const bus = await Bus.open({ ...root, domain })
    const inner = domain === undefined ? [] : [bus.path]
    const outer = domain === undefined ? bus.path : dirname(bus.path)
    return new VisitedBus(bus, hasRoot ? inner : [...inner, outer])
  }

  private constructor(bus: Bus, made: readonly string[]) {
    this.bus = bus
    this.#made = made
    this.checks =
      made.length === 0
        ? []
        : [
            {
              check: 'bus',
              status: 'warn',
              detail: `${bus.path} (${bus.pathSource}) is not there yet, and can be made`,
              advice: 'none needed: the first process that announces something makes it',
            },
          ]
  }

  async close(): Promise<void> {
    await this.bus.close()
    for (const path of this.#made) {
      // If another process uses it by now, it is not empty, and stays.
      await rmdir(path).catch(() => {})
    }
  }
}

async function exists(options: BusOptions): Promise<boolean> {
  try {
    await (await Bus.open({ ...options, create: false })).close()
    return true
  } catch (error) {
    if (isMissing(error)) return false
    throw error
  }
}
