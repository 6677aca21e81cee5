/**
 * The child process of the doctor: subscribes by each rung, one after the other, sends the results to its parent, and
 * never outlives it.
 */
import { Bus, type Rung } from '../../index.js'
import { type Attempt, TOPIC } from './try-out.js'

const RUNGS: readonly Rung[] = ['direct', 'handshake', 'stream']
const PATIENCE_MS = 3000

async function attempt(path: string, rung: Rung): Promise<Attempt> {
  const begin = performance.now()
  const bus = await Bus.open({ path })
  try {
    const subscriber = await bus.subscriber(TOPIC, { acquire: rung, from: 'earliest' })
    const over = new AbortController()
    subscriber.once('failed', (error) => over.abort(error))
    const timer = setTimeout(() => over.abort(new Error(`nothing came within ${PATIENCE_MS / 1000} s`)), PATIENCE_MS)
    try {
      await subscriber.receive({ signal: over.signal })
      return { rung, took: performance.now() - begin }
    } catch (error) {
      const { message, code } = (over.signal.reason ?? error) as Error & { code?: string }
      return { rung, error: code === undefined ? message : `${message} (${code})` }
    } finally {
      clearTimeout(timer)
    }
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
