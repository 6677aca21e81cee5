// A few Node processes on one bus directory, for the scenarios that are no pair: started in order, closed all.

import { mkdtempSync, rmSync } from 'node:fs'
import path from 'node:path'
import { Endpoint } from './endpoint-process.mjs'

/** Gives `use` a function that starts a process in a role of `module`, and the directory; cleans up after it. */
export async function cast(context, module, use) {
  const bus = mkdtempSync(path.join(context.scratch, 'bus-'))
  const processes = []
  const start = async (role, core, options = {}) => {
    const endpoint = new Endpoint(
      { benches: context.benches, module, role, bus, title: role, cores: [0, 1], ...options },
      core,
    )
    processes.push(endpoint)
    await endpoint.next('ready', 120_000)
    return endpoint
  }
  try {
    return await use(start, bus)
  } finally {
    for (const endpoint of processes.toReversed()) await endpoint.close()
    rmSync(bus, { recursive: true, force: true })
  }
}
