// @ts-check
/**
 * npm start: the demo. One process publishes the machine's counters, three others receive them; the publisher is killed in
 * the middle of its work, everything that it had committed still arrives, and its successor is taken up by itself.
 * Takes about 12 s; exit code 0 only if nothing at all was lost. This file tells the story; each process has its own.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Bus } from 'ringbell'
import { Child, endAll } from './child.js'
import { count } from './figures.js'
import { paint, Screen } from './screen.js'
import { ledger, verdict } from './verdict.js'
import { view } from './view.js'

const LIMIT_MS = 60_000
const ACT_MS = 2500
const BACKLOG_MS = 100
const PROCESSES = 4

const begin = performance.now()
const busPath = mkdtempSync(join(tmpdir(), 'ringbell-demo-'))
/** @type {Bus | undefined} */
let bus

let leaving = false

/** The last thing that happens, on every way out. @param {number} code */
async function leave(code) {
  if (leaving) return
  leaving = true
  await endAll()
  await bus?.close()
  rmSync(busPath, { recursive: true, force: true })
  process.exit(code)
}

for (const [signal, code] of /** @type {const} */ ([
  ['SIGINT', 130],
  ['SIGTERM', 143],
  ['SIGHUP', 129],
])) {
  process.once(signal, () => void leave(code))
}
setTimeout(() => {
  process.stderr.write(`the demo did not end within ${LIMIT_MS / 1000} s\n`)
  void leave(1)
}, LIMIT_MS).unref()

/** Who plays. @type {{ publisher: Child | undefined, subscribers: Child[] }} */
const cast = { publisher: undefined, subscribers: [] }
const screen = new Screen(() => view(cast))

/** @param {string} what @param {string} text */
function say(what, text) {
  const seconds = ((performance.now() - begin) / 1000).toFixed(2).padStart(5)
  screen.say(`${paint('dim', `${seconds} s`)}  ${what}  ${text}`)
}

const label = (/** @type {Parameters<typeof paint>[0]} */ style, /** @type {string} */ word) =>
  paint(style, word.padEnd(8))

async function play() {
  screen.say(paint('bold', 'ringbell: the counters of this machine, from process to process through shared memory'))
  screen.say('One process publishes readings of /proc under the name "machine"; three others know only that name.\n')

  bus = await Bus.open({ path: busPath })
  const gone = removals(bus)

  const [dashboard, meter, checker] = (cast.subscribers = ['dashboard', 'meter', 'checker'].map(subscriber))
  if (dashboard === undefined || meter === undefined || checker === undefined) return
  await Promise.all(cast.subscribers.map((child) => child.next('listening')))
  say(label('dim', 'waiting'), 'three subscribers, no publisher yet')

  const books = ledger(cast.subscribers)
  const first = await publisher()
  await sleep(ACT_MS)

  const cpus = availableParallelism()
  const queue = cpus < PROCESSES ? `; latency is now mostly waiting for a turn on one of ${cpus} CPUs` : ''
  say(label('cyan', 'faster'), `the publisher reads and sends as fast as it can${queue}`)
  first.child.order('fast')
  await sleep(ACT_MS)

  checker.order('pause')
  await sleep(BACKLOG_MS)
  const killed = performance.now()
  const removed = gone(first.id)
  first.child.kill()
  say(
    label('red', 'SIGKILL'),
    `publisher ${first.child.pid}, in the middle of its work; the checker was made to lag behind first`,
  )
  const after = (await removed) - killed
  say(label('red', 'removed'), `its record vanished from the bus ${after.toFixed(1)} ms after the kill`)
  await first.child.exited()

  const examined = checker.next('examined')
  checker.order('examine')
  const { committed, before } = await examined
  const drained = books.ended(first.id)
  checker.order('resume')
  await drained
  const left = books.received(first.id, checker) - before
  say(label('green', 'drained'), `${count(left)} readings that the dead publisher had left to the checker`)
  const firstVerdict = verdict(books, first.id, committed)

  await sleep(500)
  const second = await publisher()
  second.child.order('fast')
  await sleep(ACT_MS)
  const last = second.child.next('committed')
  const closed = books.ended(second.id)
  second.child.order('close')
  const secondVerdict = await last.then(async (report) => {
    await closed
    return verdict(books, second.id, report.committed)
  })
  say(label('dim', 'closed'), `publisher ${second.child.pid} left in good order`)

  screen.close()
  return summary([firstVerdict, secondVerdict])
}

/** @param {string} name */
function subscriber(name) {
  const child = new Child(name, busPath)
  child.on('report', ({ failed }) => failed !== undefined && say(label('red', 'failed'), `${name}: ${failed}`))
  return child
}

/** Starts a publisher; resolves when all three subscribers are attached. */
async function publisher() {
  const child = (cast.publisher = new Child('publisher', busPath))
  const attached = await Promise.all(cast.subscribers.map((one) => one.next('attached')))
  const [{ attached: id, rung }] = /** @type {[{ attached: string, rung: string }]} */ (
    /** @type {unknown} */ (attached)
  )
  say(
    label('green', 'attached'),
    `publisher ${child.pid} appeared; all three subscribers attached to it by themselves (${rung})`,
  )
  return { child, id }
}

/** Follows who leaves the bus: asked for an instance, gives the time at which its record was seen to vanish. @param {Bus} bus */
function removals(bus) {
  /** @type {Map<string, (time: number) => void>} */
  const asked = new Map()
  const follow = async () => {
    for await (const { type, service } of bus.services.watch({ filter: 'machine' })) {
      if (type === 'removed') asked.get(service.id)?.(performance.now())
    }
  }
  follow().catch((error) => say(label('red', 'failed'), `watching the bus: ${error.message}`))
  return (/** @type {string} */ id) =>
    new Promise((/** @type {(time: number) => void} */ resolve) => asked.set(id, resolve))
}

/** @param {import('./verdict.js').Verdict[]} verdicts */
function summary(verdicts) {
  const lost = verdicts.reduce((sum, one) => sum + one.lost, 0)
  const wrong = verdicts.reduce((sum, one) => sum + one.wrong, 0) + (cast.subscribers[2]?.latest['torn'] ?? 0)
  const names = ['killed', 'closed']
  process.stdout.write('\n')
  verdicts.forEach(({ committed, received }, at) => {
    const each = received.map(({ name, messages }) => `${name} ${count(messages)}`).join(', ')
    process.stdout.write(
      `publisher ${at + 1} (${names[at]}) committed ${count(committed)} readings; received: ${each}\n`,
    )
  })
  const good = lost === 0 && wrong === 0
  const total = verdicts.reduce((sum, one) => sum + one.received.reduce((all, { messages }) => all + messages, 0), 0)
  process.stdout.write(
    `${paint(good ? 'green' : 'red', `${count(lost)} lost`)}, ${count(wrong)} out of order or torn, of ${count(total)} readings delivered\n`,
  )
  return good ? 0 : 1
}

play().then(
  (code) => leave(code ?? 1),
  (error) => {
    screen.close()
    // On Ctrl-C everybody ends early, and that is no failure.
    if (!leaving) process.stderr.write(`the demo failed: ${error.message}\n`)
    return leave(1)
  },
)
