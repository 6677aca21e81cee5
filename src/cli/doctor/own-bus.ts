/** A bus in a new directory that only this user can enter: for what the doctor tries where it may not use the bus that it examines. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Bus } from '../../index.js'

/** Calls `body` with the bus, and removes it. */
export async function onOwnBus<R>(body: (bus: Bus) => Promise<R>): Promise<R> {
  const path = await mkdtemp(join(tmpdir(), 'ringbell-doctor-'))
  try {
    const bus = await Bus.open({ path })
    try {
      return await body(bus)
    } finally {
      await bus.close()
    }
  } finally {
    await rm(path, { recursive: true, force: true })
  }
}
