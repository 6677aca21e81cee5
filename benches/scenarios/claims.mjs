// From the SIGKILL of a holder to the next one that acts: a claim, and flock(2), whose waiters block in the kernel.

import { alternate } from '../harness/rounds.mjs'
import { program } from '../harness/rust.mjs'

export async function run(context) {
  if (!context.has.ringbellRust) return []
  const count = context.quick ? 30 : 200
  const entries = [
    ['claim', 'ringbell'],
    ['flock', 'floor'],
  ].map(([mode, kind]) => ({
    name: mode,
    kind,
    window: () => program(context, 'ringbell-claims', 'handover', { mode, count }),
  }))
  const data = await alternate(entries, { ...context, title: 'claims' })
  return [{ scenario: 'claims', case: 'holder killed', metric: 'p50', unit: 'ns', entries: data }]
}
