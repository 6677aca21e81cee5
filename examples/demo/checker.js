// @ts-check
/**
 * A subscriber that checks every message: its sequence number, and that its text is whole. On order it stops reading for
 * a moment, so that a publisher that is killed then leaves something behind; what it had committed is read
 * from its counters, which outlive it in shared memory.
 */
import { Bus } from 'ringbell'
import { Account, tellOf } from './account.js'
import { busPath, onOrders, report } from './link.js'
import { FILES, textOf } from './readings.js'

const REPORT_MS = 200
const FIRST_CHARACTERS = 20

const bus = await Bus.open({ path: busPath })
const subscriber = await bus.subscriber('machine')
const account = new Account()
tellOf(subscriber, account, report)
let torn = 0

/** @type {Promise<void> | undefined} */
let pause
let goOn = () => {}
onOrders({
  pause: () => (pause = new Promise((resolve) => (goOn = resolve))),
  // The publisher is dead: its counters do not move any more.
  examine: () => {
    const source = subscriber.stats().sources[0]
    if (source === undefined) report({ failed: 'the dead publisher is no longer attached' })
    else report({ examined: source.id, committed: source.publisher.messages, before: account.of(source.id).received })
  },
  resume: () => {
    pause = undefined
    goOn()
  },
})

setInterval(() => report({ checked: account.received, torn, wrong: account.disorder + torn }), REPORT_MS)

report({ listening: true })
for await (const message of subscriber) {
  account.take(message.publisher, message.sequence)
  const file = FILES[message.data[0] ?? -1]
  if (file === undefined || !file.begins.test(textOf(message.data.subarray(0, FIRST_CHARACTERS)))) torn++
  if (pause !== undefined) await pause
}
