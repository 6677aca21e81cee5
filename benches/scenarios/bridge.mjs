// From one bus to another through NATS, beside nats.js alone, between two processes and through the same nats-server: messages of 256 B,
// and calls of 64 B there and back, one at a time. A bridge is a process of its own on each side. And what a bridge costs those who stay on
// their bus: a stream between two local processes, with a bridge that shows the topic to another bus, and without.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync } from 'node:fs'
import { createServer } from 'node:net'
import path from 'node:path'
import { Calls, Stream } from '../harness/pair.mjs'
import { alternate } from '../harness/rounds.mjs'

const SIZE = 256
const CALL_SIZE = 64
const CAPACITY = 1 << 20
const MAIN = path.resolve(import.meta.dirname, '../../dist/cli/main.js')

export async function run(context) {
  if (!context.has.nats || !context.has.ringbell) return []
  const children = []
  try {
    const nats = await natsServer(children)
    const buses = ['a', 'b'].map((name) => mkdtempSync(path.join(context.scratch, `bus-${name}-`)))
    for (const bus of buses) await bridge(children, bus, nats)
    const alone = mkdtempSync(path.join(context.scratch, 'bus-'))
    const { scratch, benches } = context
    const entry = (kind, Class, name, options) => {
      const pair = new Class({ title: name, scratch, benches, ...options })
      return {
        name,
        kind,
        open: () => pair.open(),
        window: (span) => pair.window(span),
        close: () => pair.close(),
        pair,
      }
    }
    const streams = [
      entry('ringbell', Stream, 'bridge', {
        module: './bridge.mjs',
        variant: 'borrowed',
        size: SIZE,
        capacity: CAPACITY,
        buses,
      }),
      entry('rival', Stream, 'nats.js', { module: './nats.mjs', variant: '', size: SIZE, nats, lossy: true }),
    ]
    const calls = [
      entry('ringbell', Calls, 'bridge', { module: './bridge.mjs', variant: 'adaptive', size: CALL_SIZE, buses }),
      entry('rival', Calls, 'nats.js', { module: './nats.mjs', variant: '', size: CALL_SIZE, nats }),
    ]
    const local = [
      ['with a bridge', buses[0]],
      ['without', alone],
    ].map(([name, bus]) =>
      entry('ringbell', Stream, name, {
        module: './bridge.mjs',
        variant: 'borrowed',
        size: SIZE,
        capacity: CAPACITY,
        buses: [bus, bus],
      }),
    )
    /** @type {[label: string, metric: string, entries: object[]][]} */
    const cases = [
      ['one way, 256 B', 'perSecond', streams],
      ['calls, 64 B', 'p50', calls],
      ['local, 256 B', 'perSecond', local],
    ]
    const runs = []
    for (const [label, metric, entries] of cases)
      runs.push({
        scenario: 'bridge',
        case: label,
        metric,
        ...(metric === 'p50' ? { unit: 'ns' } : { bytes: SIZE }),
        entries: await alternate(entries, { ...context, title: `bridge, ${label}` }),
      })
    return runs
  } finally {
    for (const child of children.reverse()) {
      child.kill()
      await once(child, 'exit')
    }
  }
}

async function natsServer(children) {
  const probe = createServer().listen(0, '127.0.0.1')
  await once(probe, 'listening')
  const { port } = probe.address()
  probe.close()
  await once(probe, 'close')
  const child = spawn('nats-server', ['-a', '127.0.0.1', '-p', String(port)], { stdio: ['ignore', 'ignore', 'pipe'] })
  children.push(child)
  await says(child, 'Server is ready')
  return `nats://127.0.0.1:${port}`
}

async function bridge(children, bus, nats) {
  const words = ['--bus', bus, 'bridge', nats, '--topics', '*', '--services', '*']
  const child = spawn(process.execPath, [MAIN, ...words], { stdio: ['ignore', 'ignore', 'pipe'] })
  children.push(child)
  await says(child, 'active')
}

/** Waits for this text. Reads on after it, so that the program never waits for its reader. */
async function says(child, text) {
  let said = ''
  await new Promise((resolve, reject) => {
    child.stderr.on('data', (data) => {
      said += data
      if (said.includes(text)) resolve()
    })
    child.on('exit', () => reject(new Error(said)))
  })
}
