/**
 * The child process of the doctor: subscribes by each rung, one after the other, sends the results to its parent, and
 * never outlives it.
 */
import { Bus, type Rung } from '../../index.js'
import { sentenceOf } from '../exit-codes.js'
import { type Attempt, TOPIC } from './try-out.js'

const RUNGS: readonly Rung[] = ['direct', 'handshake', 'stream']
const PATIENCE_MS = 3000

async function attempt(path: string, rung: Rung): Promise<Attempt> {
  const begin = performance.now()
  const over = new AbortController()
  const timer = setTimeout(() => over.abort(new Error(`nothing came within ${PATIENCE_MS / 1000} s`)), PATIENCE_MS)
  try {
    await receive(path, rung, over)
    return { rung, took: performance.now() - begin }
  } catch (error) {
    return { rung, error: sentenceOf(over.signal.reason ?? error) }
  } finally {
    clearTimeout(timer)
  }
}

async function receive(path: string, rung: Rung, over: AbortController): Promise<void> {
  const bus = await Bus.open({ path })
  try {
    const subscriber = await bus.subscriber(TOPIC, { acquire: rung, from: 'earliest' })
    subscriber.once('failed', (error) => over.abort(error))
    await subscriber.receive({ signal: over.signal })
  } finally {
    await bus.close()
  }
}

async function main(path: string): Promise<void> {
  const found: Attempt[] = []
  for (const rung of RUNGS) found.push(await attempt(path, rung))
  process.send?.(found, () => process.disconnect())
}

process.once('disconnect', () => process.exit())
void main(process.argv[2] ?? '')
