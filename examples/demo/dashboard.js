// @ts-check
/** A subscriber that wants only the newest: it receives every reading, keeps the last of each file, and draws now and then. */
import { Bus } from 'ringbell'
import { Account, tellOf } from './account.js'
import { busPath, report } from './link.js'
import { KIND, textOf } from './readings.js'

const REPORT_MS = 250

const bus = await Bus.open({ path: busPath })
const subscriber = await bus.subscriber('machine')
const account = new Account()
tellOf(subscriber, account, report)

/** The newest reading of each kind. @type {(import('ringbell').Message | undefined)[]} */
const newest = []
/** Counters as of the last report, for rates. */
let before = { time: 0, busy: 0, all: 0, switches: 0, network: 0 }

setInterval(() => {
  const [stat = '', memory = '', network = ''] = [KIND.stat, KIND.memory, KIND.network].map((kind) => {
    const message = newest[kind]
    return message === undefined ? '' : textOf(message.data)
  })
  if (stat === '') return
  const now = {
    time: performance.now(),
    ...cpuTime(stat),
    switches: field(stat, 'ctxt'),
    network: networkBytes(network),
  }
  const seconds = (now.time - before.time) / 1000
  if (before.time > 0) {
    report({
      cpu: (now.busy - before.busy) / Math.max(1, now.all - before.all),
      memory: (field(memory, 'MemTotal:') - field(memory, 'MemAvailable:')) * 1024,
      switches: (now.switches - before.switches) / seconds,
      network: (now.network - before.network) / seconds,
    })
  }
  before = now
}, REPORT_MS)

report({ listening: true })
for await (const message of subscriber) {
  account.take(message.publisher, message.sequence)
  newest[message.data[0] ?? 0] = message
}

/** @param {string} text @param {string} name */
function field(text, name) {
  return Number(new RegExp(`^${name}\\s+(\\d+)`, 'm').exec(text)?.[1] ?? 0)
}

/** Clock ticks of all CPUs, from the first line of /proc/stat. @param {string} stat */
function cpuTime(stat) {
  const [user = 0, nice = 0, system = 0, idle = 0, waiting = 0, ...others] = stat
    .slice(4, stat.indexOf('\n'))
    .trim()
    .split(/\s+/)
    .map(Number)
  // The last two, guest times, are part of user and nice.
  const busy = user + nice + system + others.slice(0, 3).reduce((sum, ticks) => sum + ticks, 0)
  return { busy, all: busy + idle + waiting }
}

/** Received and sent, all interfaces. @param {string} text */
function networkBytes(text) {
  let bytes = 0
  for (const line of text.split('\n').slice(2)) {
    const numbers = line
      .slice(line.indexOf(':') + 1)
      .trim()
      .split(/\s+/)
      .map(Number)
    bytes += (numbers[0] ?? 0) + (numbers[8] ?? 0)
  }
  return bytes
}
