// What leaves a bus: how soon a change is in an exported file, what that costs, and what a scrape of many endpoints takes.

import path from 'node:path'
import { cast } from '../harness/cast.mjs'
import { alternate } from '../harness/rounds.mjs'
import { distribution } from '../harness/statistics.mjs'

const MODULE = './ringbell-export.mjs'
const SERVICES = 1000
const RATE = 100
const ENDPOINTS = 1000
const PATIENCE = 60_000

function exporting(context, format, ms) {
  return cast(context, MODULE, async (start, bus) => {
    const file = path.join(bus, `..`, `${format}.out`)
    const changer = await start('changer', 0, { count: SERVICES })
    const exporter = await start('exporter', 1)
    await exporter.ask({ type: 'export', file, format }, 'exported', PATIENCE)
    const change = (duration) =>
      changer.ask({ type: 'change', file, format, rate: RATE, ms: duration }, 'changed', duration + PATIENCE)
    await change(1000)
    const before = await exporter.ask({ type: 'usage' }, 'usage')
    const { latencies } = await change(ms)
    const after = await exporter.ask({ type: 'usage' }, 'usage')
    await exporter.ask({ type: 'end' }, 'ended')
    const wall = (after.at - before.at) * 1000
    return {
      ...distribution(Float64Array.from(latencies)),
      cpuPercent: (100 * (after.cpuMicros - before.cpuMicros)) / wall,
      filesPerSecond: ((after.changes - before.changes) * 1e6) / wall,
    }
  })
}

function scraping(context, count) {
  return cast(context, MODULE, async (start) => {
    const scraped = await start('scraped', 1, { count: ENDPOINTS })
    await scraped.ask({ type: 'scrape', count: 20 }, 'scraped', PATIENCE)
    const { milliseconds, bytes } = await scraped.ask({ type: 'scrape', count }, 'scraped', PATIENCE)
    const nanoseconds = Float64Array.from(milliseconds, (value) => value * 1e6)
    return { ...distribution(nanoseconds), bytes }
  })
}

export async function run(context) {
  if (!context.has.ringbell) return []
  const ms = context.quick ? 3000 : 10_000
  const exports = ['prometheus', 'json'].map((format) => ({
    name: format,
    kind: 'ringbell',
    window: () => exporting(context, format, ms),
  }))
  const scrapes = [{ name: 'prom-client', kind: 'ringbell', window: () => scraping(context, context.quick ? 20 : 100) }]
  return [
    {
      scenario: 'export',
      case: '1,000 services, 100 changes a second',
      metric: 'latency',
      unit: 'ns',
      entries: await alternate(exports, { ...context, title: 'export' }),
    },
    {
      scenario: 'export',
      case: 'a scrape of 1,000 endpoints',
      metric: 'p50',
      unit: 'ns',
      entries: await alternate(scrapes, { ...context, title: 'scrape' }),
    },
  ]
}
