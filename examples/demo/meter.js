// @ts-check
/** A subscriber that measures: messages and bytes per second, and how old a reading is when it is received. */
import { createHistogram } from 'node:perf_hooks'
import { Bus } from 'ringbell'
import { Account, tellOf } from './account.js'
import { busPath, report } from './link.js'

const REPORT_MS = 250

const bus = await Bus.open({ path: busPath })
const subscriber = await bus.subscriber('machine')
const account = new Account()
tellOf(subscriber, account, report)

const latency = createHistogram()
let messages = 0
let bytes = 0
let since = performance.now()

setInterval(() => {
  const now = performance.now()
  const seconds = (now - since) / 1000
  const quiet = messages === 0
  report({
    rate: messages / seconds,
    bandwidth: bytes / seconds,
    p50: quiet ? 0 : latency.percentile(50),
    p99: quiet ? 0 : latency.percentile(99),
  })
  latency.reset()
  messages = bytes = 0
  since = now
}, REPORT_MS)

report({ listening: true })
for await (const batch of subscriber.batches({ lifetime: 'borrowed' })) {
  const now = process.hrtime.bigint()
  for (let i = 0; i < batch.length; i++) {
    account.take(batch.publisher, batch.sequence(i))
    const age = now - batch.time(i)
    latency.record(age > 0n ? age : 1n)
    bytes += batch.byteLength(i)
  }
  messages += batch.length
}
