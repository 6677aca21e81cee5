// A rolling restart of four replicas while clients make 10,000 calls a second: how long calls take meanwhile, beside the time
// before, and how many fail. The restart is repeated, because one of them is over within a second or two.

import { mkdtempSync, rmSync } from 'node:fs'
import path from 'node:path'
import { alternate } from '../harness/rounds.mjs'
import { Told } from '../harness/told.mjs'

const REPLICAS = 4

async function restarts(context, count, quiet) {
  const dir = mkdtempSync(path.join(context.scratch, 'restart-'))
  const env = { ...process.env, IPC_BUS_DIR: path.join(dir, 'bus') }
  const program = (name, ...words) =>
    new Told(process.execPath, [path.join(context.benches, 'node', name), ...words], { env })
  const manager = program('restart-manager.mjs', String(REPLICAS))
  const programs = [manager]
  try {
    await manager.next('started')
    const caller = program('restart-caller.mjs')
    programs.push(caller)
    await caller.next('connected')
    // The compiler has had its time.
    await new Promise((done) => setTimeout(done, quiet))
    caller.say('quiet')
    await new Promise((done) => setTimeout(done, quiet))
    caller.say('restart')
    let took = 0
    for (let times = 0; times < count; times++) {
      manager.say('restart')
      took += (await manager.next('restarted')).restarted / count
    }
    caller.say('end')
    const { quiet: before, restart, failures, codes } = await caller.next('quiet')
    for (const [code, times] of Object.entries(codes)) context.say(`  ${times} × ${code}`)
    const ratio = restart.p99 / before.p99
    return {
      ...restart,
      quietP50: before.p50,
      quietP99: before.p99,
      ratio,
      failures,
      restarts: count,
      took: took * 1e6,
    }
  } finally {
    await Promise.all(programs.map((one) => one.end()))
    rmSync(dir, { recursive: true, force: true })
  }
}

export async function run(context) {
  if (!context.has.ringbell) return []
  const [count, quiet] = context.quick ? [2, 1000] : [10, 5000]
  const entries = [{ name: `${REPLICAS} replicas`, kind: 'ringbell', window: () => restarts(context, count, quiet) }]
  const data = await alternate(entries, { ...context, title: 'rolling restart' })
  return [{ scenario: 'rolling-restart', case: '10,000 calls/s', metric: 'p99', unit: 'ns', entries: data }]
}
