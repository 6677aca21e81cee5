/**
 * A service that others call by name: two kinds of calls, one of them answered with a stream. Start several, kill some:
 * clients go on with the others. Run: node examples/calls/server.mjs
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { Bus } from 'ringbell'

const bus = await Bus.open()

async function* countdown(from, signal) {
  // The caller sets the pace, and leaving its loop ends this one.
  for (let n = from; n > 0; n--) {
    yield n
    await sleep(100, undefined, { signal })
  }
}

await bus.serve('example.maths', { codec: 'json' }, async ({ what, numbers, from }, { signal }) => {
  if (what === 'countdown') return countdown(from, signal)
  if (what === 'sum') return numbers.reduce((sum, number) => sum + number, 0)
  throw Object.assign(new Error(`nobody taught me '${what}'`), { code: 'ERR_UNKNOWN_QUESTION' })
})
console.log(`serving example.maths as process ${process.pid}`)
