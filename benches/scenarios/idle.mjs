// Connected and silent: context switches and system calls of both processes within 5 s.
// First some traffic, then silence until V8 has tidied up, then the counters of /proc, then strace.

import { alternate } from '../harness/rounds.mjs'
import { Stream } from '../harness/pair.mjs'
import { contextSwitches, pause, quiet, systemCalls } from '../harness/switches.mjs'

const SPAN = 5000

function idle(name, kind, context, options, traffic) {
  const pair = new Stream({ title: name, scratch: context.scratch, size: 256, capacity: 1 << 20, ...options })
  return {
    name,
    kind,
    open: () => pair.open(),
    close: () => pair.close(),
    async window() {
      if (traffic) await pair.window({ warm: 100, ms: 200 })
      const pids = [pair.first.pid, pair.second.pid]
      const settled = await quiet(pids, 30_000)
      const before = contextSwitches(pids)
      await pause(SPAN)
      const switches = contextSwitches(pids) - before
      const calls = await systemCalls(pids, SPAN, context.scratch)
      return { settled, contextSwitches: switches, systemCalls: calls?.length, which: [...new Set(calls)] }
    },
  }
}

export async function run(context) {
  const entries = [idle('bare Node', 'floor', context, { module: './bare.mjs', variant: '' }, false)]
  if (context.has.ringbell) {
    const ringbell = { module: './ringbell.mjs', variant: 'send+listen' }
    entries.push(idle('ringbell', 'ringbell', context, ringbell, true))
  }
  const data = await alternate(entries, { ...context, rounds: context.quick ? 1 : 2, title: 'idle' })
  return [{ scenario: 'idle', case: '5 s', metric: 'contextSwitches', unit: 'switches', entries: data }]
}
