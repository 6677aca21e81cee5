/** Processes that hold, or wait for, everything that is held and waited for make no system call while nothing happens. */
import { readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { setTimeout as sleep } from 'node:timers/promises'
import test from 'ava'
import { instancesOn } from 'ringbell/supervise'
import { Child } from '../helpers/child.js'
import { PATIENCE_MS } from '../helpers/patience.js'
import { peer } from '../helpers/peer.js'
import { place } from '../helpers/place.js'

/** How long nobody may stir. */
const QUIET_MS = 5000

/**
 * How often each thread of a process was switched to. A thread that makes a system call is awake, and one that sleeps must be
 * switched to before it is.
 */
function switches(pid: number): Record<string, string> {
  const folder = `/proc/${pid}/task`
  const counts = (thread: string): string =>
    readFileSync(`${folder}/${thread}/status`, 'utf8').replace(/^(?!\w+_ctxt_switches).*\n/gm, '')
  return Object.fromEntries(readdirSync(folder).map((thread) => [thread, counts(thread)]))
}

/** Resolves when none of these processes has stirred for a while. After work Node tidies up, and each piece of news is followed by a second of looks. */
async function quiet(...pids: number[]): Promise<string> {
  const all = (): string => JSON.stringify(pids.map(switches))
  for (let before = all(); ;) {
    await sleep(QUIET_MS)
    const after = all()
    if (after === before) return after
    before = after
  }
}

test.serial('holders and waiters make no system call', async (t) => {
  t.timeout(PATIENCE_MS)
  const at = place(t, { untidy: true })
  const holds = peer(at, 'idle.mjs', ['hold'])
  await holds.tells('ready')
  const waits = peer(at, 'idle.mjs', ['wait'])
  await waits.tells('ready')
  t.regex(await quiet(holds.pid, waits.pid), /nonvoluntary_ctxt_switches:\\t\d+/)
  t.true(holds.running && waits.running)
})

test.serial('the manager of a group of 16 makes no system call', async (t) => {
  const at = place(t, { untidy: true })
  const keeper = fileURLToPath(new URL('../fixtures/supervise/keeper.mjs', import.meta.url))
  const manager = new Child(process.execPath, [keeper, String(process.pid), '16'], { env: { IPC_BUS_DIR: at.path } })
  const bus = await at.bus()
  at.onEnd(async () => {
    const instances = await instancesOn(bus)
    await manager.ended()
    for (const { pid } of instances) process.kill(pid as number, 'SIGKILL')
  })
  await manager.shows('started')
  await quiet(manager.pid)
  t.true(manager.running)
  t.is(bus.services.findAll('price.member').length, 16)
})
