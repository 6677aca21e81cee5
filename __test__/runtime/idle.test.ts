/** Processes that hold, or wait for, everything that is held and waited for make no system call while nothing happens. */
import { readdirSync, readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import test from 'ava'
import { PATIENCE_MS } from '../helpers/patience.js'
import { peer } from '../helpers/peer.js'
import { place, until } from '../helpers/place.js'

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

test.serial('holders and waiters make no system call', async (t) => {
  t.timeout(PATIENCE_MS)
  const at = place(t, { untidy: true })
  const holds = peer(at, 'idle.mjs', ['hold'])
  await holds.tells('ready')
  const waits = peer(at, 'idle.mjs', ['wait'])
  await waits.tells('ready')
  const all = (): string => JSON.stringify([switches(holds.pid), switches(waits.pid)])
  // After it has worked, Node tidies up for a while, and each piece of news is followed by a second of looks.
  let before = all()
  await until(async () => {
    await sleep(QUIET_MS)
    const after = all()
    const quiet = after === before
    before = after
    return quiet
  })
  t.regex(before, /nonvoluntary_ctxt_switches:\\t\d+/)
  t.true(holds.running && waits.running)
})
