// From the SIGKILL of a primary to the first reply of the next one at a client that calls all the time; and the same without the time
// that the kernel takes to bury the dead one (from the moment its pidfd fires). Rivals restart the one process that serves: node:cluster
// by a fork in 'exit', pm2 by itself.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import path from 'node:path'
import { alternate } from '../harness/rounds.mjs'
import { Told } from '../harness/told.mjs'

const REPLICAS = [3, 4, 8, 16]
const node = (context, name) => path.join(context.benches, 'node', name)

/** A percentile of sorted numbers. */
const at = (sorted, share) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))]

/** Figures in nanoseconds. @param {{ kill: number[], death: number[] }} samples */
function figures({ kill, death }, counts) {
  const [since, after] = [kill, death].map((times) => times.toSorted((a, b) => a - b))
  return {
    p50: at(after, 0.5),
    p99: at(after, 0.99),
    max: after.at(-1),
    killP50: at(since, 0.5),
    killP99: at(since, 0.99),
    samples: since.length,
    ...counts,
  }
}

/** Kills the process that answers, `count` times. `caller` tells each first reply of another process, `replace` what follows a kill. */
async function kills(context, count, caller, replace) {
  const deaths = new Told(path.join(context.programs, 'ringbell-claims'), ['deaths'])
  const samples = { kill: [], death: [] }
  try {
    let { pid } = await caller.next('pid')
    for (let kill = 0; kill < count; kill++) {
      deaths.say(pid)
      await deaths.next('watching')
      // The client is in full flow, and the standbys are asleep.
      await new Promise((done) => setTimeout(done, 20))
      const killed = process.hrtime.bigint()
      process.kill(pid, 'SIGKILL')
      const [{ died }, first] = await Promise.all([deaths.next('died'), caller.next('pid')])
      const heard = BigInt(first.heard)
      samples.kill.push(Number(heard - killed))
      samples.death.push(Math.max(0, Number(heard - BigInt(died))))
      pid = first.pid
      await replace()
    }
    caller.say('end')
    const { answers, failures, doubles } = await caller.next('answers')
    return figures(samples, { answers, failures, doubles })
  } finally {
    await deaths.end()
  }
}

async function ringbell(context, replicas, count) {
  const dir = mkdtempSync(path.join(context.scratch, 'failover-'))
  const env = { ...process.env, IPC_BUS_DIR: path.join(dir, 'bus') }
  const programs = []
  const member = async () => {
    const one = new Told(process.execPath, [node(context, 'failover-member.mjs')], { env })
    programs.push(one)
    await one.next('ready')
  }
  try {
    for (let made = 0; made < replicas; made++) await member()
    const caller = new Told(process.execPath, [node(context, 'failover-caller.mjs'), 'ringbell'], { env })
    programs.push(caller)
    return await kills(context, count, caller, member)
  } finally {
    await Promise.all(programs.map((one) => one.end()))
    rmSync(dir, { recursive: true, force: true })
  }
}

/** One process serves on a Unix socket, and a manager restarts it. */
async function managed(context, count, start) {
  const dir = mkdtempSync(path.join(context.scratch, 'failover-'))
  const env = { ...process.env, SOCKET: path.join(dir, 'http'), PM2_HOME: path.join(dir, 'pm2') }
  const stop = await start(env)
  const caller = new Told(process.execPath, [node(context, 'failover-caller.mjs'), 'http'], { env })
  try {
    return await kills(context, count, caller, async () => {})
  } finally {
    await caller.end()
    await stop()
    rmSync(dir, { recursive: true, force: true })
  }
}

function cluster(context, count) {
  return managed(context, count, async (env) => {
    const manager = new Told(process.execPath, [node(context, 'failover-cluster.mjs')], { env })
    return async () => {
      manager.say('end')
      await once(manager.process, 'exit')
    }
  })
}

function pm2(context, count) {
  const program = path.join(context.benches, 'node_modules/.bin/pm2')
  const run = async (env, ...words) => {
    const child = spawn(program, words, { env, stdio: 'ignore' })
    const [code] = await once(child, 'exit')
    if (code !== 0) throw new Error(`pm2 ${words[0]} ended with ${code}`)
  }
  return managed(context, count, async (env) => {
    await run(env, 'start', node(context, 'failover-http.mjs'), '--restart-delay', '0')
    return () => run(env, 'kill')
  })
}

export async function run(context) {
  if (!context.has.ringbell || !context.has.ringbellRust) return []
  const [many, few] = context.quick ? [10, 3] : [200, 20]
  const entries = REPLICAS.map((replicas) => ({
    name: `${replicas} replicas`,
    kind: 'ringbell',
    window: () => ringbell(context, replicas, many),
  }))
  entries.push({ name: 'node:cluster', kind: 'rival', window: () => cluster(context, few) })
  if (context.has.pm2) entries.push({ name: 'pm2', kind: 'rival', window: () => pm2(context, few) })
  const data = await alternate(entries, { ...context, title: 'failover' })
  return [{ scenario: 'failover', case: 'primary killed', metric: 'p50', unit: 'ns', entries: data }]
}
