// @ts-check
/**
 * npm run soak [-- SECONDS]: the hunts that are too long for `npm test`, which runs each of them for a short time. They are
 * kills of either side, failovers, histories of locks while their users are killed, the failure of each system call, hostile callbacks, calls of the binding that fail, lost wake-ups,
 * and the fuzz targets if cargo-fuzz and a nightly compiler are installed. SECONDS (an hour by default) is divided among
 * them. The n-th failure needs hours of its own to try all: a shorter hunt has some of each scenario. Any failure
 * ends the run with exit code 1.
 */
import { avaOutcome, cargoOutcome, checkOutcome } from './outcome.mjs'
import { run, script, SILENCE } from './project.mjs'

const seconds = Number(process.argv[2] ?? 3600)
const share = Math.max(10, Math.floor(seconds / 14))

/** Rates on two cores of 2026, rounded down. They only convert a share of the time to a count. */
const KILLS_A_SECOND = 10
const FAILOVERS_A_SECOND = 2
const WAKES_A_SECOND = 200_000
const HANDSHAKES_A_SECOND = 500
/** Of processes that take turns, and of writers of states. */
const TURN_KILLS_A_SECOND = 8

const wakeHunt = ['cargo', 'run', '--release', '-p', 'ringbell-ring', '--example', 'wake_hunt', '--']
/** @type {(program: string, ...filter: string[]) => string[]} */
const cargoTest = (program, ...filter) => ['cargo', 'test', '--release', '-p', 'ringbell', '--test', program, ...filter]

/** @type {{ name: string, command: string[], env?: Record<string, string> }[]} */
const hunts = [
  {
    name: 'kills of publishers and subscribers',
    command: cargoTest('it', 'topic_faults::a_killed'),
    env: { TOPIC_KILLS: String(Math.ceil((share * KILLS_A_SECOND) / 2)) },
  },
  {
    name: 'kills of those who hold a claim or wait for one',
    command: cargoTest('it', 'claims::killed_at_random'),
    env: { CLAIM_KILLS: String(share * KILLS_A_SECOND) },
  },
  {
    name: 'histories of locks, semaphores, flags and sharded mutexes with kills',
    command: cargoTest('histories', 'linearizable', '--', '--nocapture'),
    env: { HISTORY_KILLS: String(share * TURN_KILLS_A_SECOND) },
  },
  {
    name: 'kills of those who hold a lock or permits or wait for them',
    command: cargoTest('it', 'sync::workers_killed_at_random'),
    env: { RINGBELL_KILLS: String(share * TURN_KILLS_A_SECOND) },
  },
  {
    name: 'kills of the writers of states, with one value and with keys',
    command: cargoTest('it', 'killed_writers'),
    env: { STATE_KILLS: String(share * TURN_KILLS_A_SECOND) },
  },
  {
    name: 'primaries of a group that are killed, stopped and stepped down',
    command: [process.execPath, 'node_modules/ava/entrypoints/cli.mjs', '__test__/fault/groups.test.ts'],
    env: { RINGBELL_TEST_FAILOVERS: String(share * FAILOVERS_A_SECOND) },
  },
  {
    name: 'handshakes with servers that die, hang and refuse',
    command: cargoTest('channel_storm', 'reset', '--', '--nocapture'),
    env: { CHANNEL_HANDSHAKES: String(share * HANDSHAKES_A_SECOND) },
  },
  {
    name: 'every hostile callback, every failing call of the binding',
    command: [process.execPath, 'node_modules/ava/entrypoints/cli.mjs', '__test__/boundary/*.test.ts'],
    env: { RINGBELL_BOUNDARY_SHARE: '1' },
  },
  {
    name: 'the n-th system call of each kind fails',
    command: ['cargo', 'test', '-p', 'ringbell', '--test', 'nth', '--', '--nocapture'],
    env: { RINGBELL_NTH: String(share) },
  },
  {
    name: 'lost wake-ups',
    command: [...wakeHunt, String(share * WAKES_A_SECOND), '2'],
  },
  ...['hostile_data', 'hostile_control', 'hostile_guest'].map((target) => ({
    name: `fuzz ${target}`,
    command: ['cargo', '+nightly', 'fuzz', 'run', target, '--', `-max_total_time=${share}`, '-max_len=1024'],
  })),
]

/** @param {string[]} command */
function readerOf(command) {
  if (command.includes('test')) return cargoOutcome
  return command.some((word) => word.includes('/ava/')) ? avaOutcome : checkOutcome
}

await script(async () => {
  if (!(seconds > 0)) throw new Error('SECONDS is a number above 0')
  let failed = 0
  for (const { name, command, env } of hunts) {
    process.stdout.write(`\n${name}\n`)
    let text = ''
    const code = await run(command, {
      env: env ?? {},
      output: (chunk) => {
        text += chunk
        process.stdout.write(chunk)
      },
      silence: SILENCE + share * 20_000,
    })
    // A filter that fits no test any more ends with 0, too.
    if (readerOf(command)(text, code).failed === 0) continue
    failed++
    process.stdout.write(`FAILED with exit code ${code}: ${command.join(' ')}\n`)
  }
  process.stdout.write(`\n${hunts.length - failed} passed, ${failed} failed\n`)
  return failed === 0 ? 0 : 1
})
