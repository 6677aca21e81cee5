// The registry: how soon a watcher sees a new record, and what 10,000 records cost.

import { cast } from '../harness/cast.mjs'
import { alternate } from '../harness/rounds.mjs'
import { program } from '../harness/rust.mjs'
import { distribution } from '../harness/statistics.mjs'

const RECORDS = 10_000
const PER_PROCESS = 2_000
const INSTANCES = 4
const MODULE = './ringbell-registry.mjs'

/** Announce, see, withdraw, see, again and again; from the call of `announce` (which includes the linkat). */
function nodeEvents(context, count) {
  return cast(context, MODULE, async (start) => {
    const announcer = await start('announcer', 0)
    const watcher = await start('watcher', 1)
    const fromCall = new Float64Array(count)
    const fromReturn = new Float64Array(count)
    for (let i = 0; i < count; i++) {
      const seen = watcher.next('added')
      const { called, returned } = await announcer.ask({ type: 'announce' }, 'announced')
      const { at } = await seen
      fromCall[i] = at - called
      fromReturn[i] = Math.max(0, at - returned)
      const gone = watcher.next('removed')
      await announcer.ask({ type: 'withdraw' }, 'withdrawn')
      await gone
    }
    return { ...distribution(fromCall), sinceReturn: distribution(fromReturn) }
  })
}

function nodeScan(context) {
  return cast(context, MODULE, async (start) => {
    const holders = []
    for (let from = 0; from < RECORDS; from += PER_PROCESS) {
      holders.push(await start('holder', (from / PER_PROCESS) % 2, { from, count: PER_PROCESS }))
    }
    const scanner = await start('scanner', 1, { count: RECORDS })
    const { type: _, ...result } = await scanner.ask({ type: 'scan' }, 'scanned', 60_000)
    for (const holder of holders) await holder.ask({ type: 'release' }, 'released', 60_000)
    if (result.records !== RECORDS || result.missing)
      throw new Error(`${result.records} records, ${result.missing} not found`)
    return result
  })
}

function nodeResolve(context) {
  return cast(context, MODULE, async (start) => {
    const resolver = await start('resolver', 0, { count: INSTANCES })
    const { type: _, ...result } = await resolver.ask({ type: 'resolve' }, 'resolved', 60_000)
    if (result.found !== 1_100_000) throw new Error(`${result.found} endpoints found`)
    return result
  })
}

export async function run(context) {
  const events = context.quick ? 100 : 500
  const eventEntries = []
  const scanEntries = []
  const resolveEntries = []
  const entry = (list, name, window) => list.push({ name, kind: 'ringbell', window })
  if (context.has.ringbellRust) {
    entry(eventEntries, 'Rust', () => program(context, 'ringbell-registry', 'event', { count: events }))
    entry(scanEntries, 'Rust', () => program(context, 'ringbell-registry', 'scan', { count: RECORDS }))
  }
  if (context.has.ringbell) {
    entry(eventEntries, 'Node', () => nodeEvents(context, events))
    entry(scanEntries, 'Node', () => nodeScan(context))
    entry(resolveEntries, 'Node', () => nodeResolve(context))
  }
  return [
    {
      scenario: 'registry',
      case: 'added event',
      metric: 'p99',
      unit: 'ns',
      entries: await alternate(eventEntries, { ...context, title: 'added event' }),
    },
    {
      scenario: 'registry',
      case: '10,000 records',
      metric: 'firstMs',
      unit: 'ms',
      entries: await alternate(scanEntries, { ...context, title: '10,000 records' }),
    },
    {
      scenario: 'registry',
      case: 'cached resolve',
      metric: 'resolveNs',
      unit: 'ns',
      entries: await alternate(resolveEntries, { ...context, title: 'cached resolve' }),
    },
  ]
}
