/** The child process of `ringbell bench`: does its part, sends the result to its parent, and never outlives it. */
import { Bus } from '../../index.js'
import { answer, ask } from './round-trip.js'
import type { Part } from './tasks.js'
import { receiveStream, sendStream } from './throughput.js'

async function work(part: Part): Promise<unknown> {
  const bus = await Bus.open({ path: part.path })
  try {
    if (part.task.kind === 'throughput') return await (part.role === 'first' ? sendStream : receiveStream)(bus, part)
    return await (part.role === 'first' ? ask : answer)(bus, part)
  } finally {
    await bus.close()
  }
}

process.once('disconnect', () => process.exit(1))
process.once('message', (part: Part) => {
  work(part).then(
    (result) => process.send?.({ result: result ?? null }, () => process.disconnect()),
    (error: Error) => process.send?.({ error: error.message }, () => process.exit(1)),
  )
})
