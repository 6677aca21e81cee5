/**
 * The last check of the doctor: can a message get from one process to another here? We publish in a private domain of
 * that bus, and a child subscribes by each rung. The child is the subscriber because Yama lets a parent do what it
 * forbids to others.
 */
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { rm } from 'node:fs/promises'
import { Bus, type Check, type Rung } from '../../index.js'

const SUBSCRIBER = new URL('./subscriber.js', import.meta.url)
const PATIENCE_MS = 10_000
export const TOPIC = 'doctor'

/** What the child found, per rung. */
export interface Attempt {
  rung: Rung
  /** Milliseconds until the first message; absent if there was none. */
  took?: number
  /** Why there was none. */
  error?: string
}

export async function tryOut(path: string, signal: AbortSignal): Promise<Check[]> {
  const bus = await Bus.open({ path, domain: `doctor-${process.pid}` })
  const folder = bus.path
  try {
    const publisher = await bus.publisher(TOPIC, { capacity: 4096 })
    publisher.send(Buffer.from('well'))
    return findings(await attempts(folder, signal))
  } catch (error) {
    signal.throwIfAborted()
    return [{ check: 'try-out', status: 'fail', detail: (error as Error).message, advice: 'see the findings above' }]
  } finally {
    await bus.close()
    await rm(folder, { recursive: true, force: true })
  }
}

async function attempts(path: string, signal: AbortSignal): Promise<Attempt[]> {
  const child = fork(SUBSCRIBER, [path], { stdio: ['ignore', 'ignore', 'inherit', 'ipc'], execArgv: [] })
  const over = new AbortController()
  child.once('exit', (code, killed) =>
    over.abort(new Error(`the subscribing process ended with ${killed ?? `code ${code}`}`)),
  )
  const timer = setTimeout(
    () => over.abort(new Error(`nothing was received within ${PATIENCE_MS / 1000} s`)),
    PATIENCE_MS,
  )
  try {
    const [found] = (await once(child, 'message', { signal: AbortSignal.any([signal, over.signal]) })) as [Attempt[]]
    return found
  } catch (error) {
    throw over.signal.aborted ? over.signal.reason : error
  } finally {
    clearTimeout(timer)
    child.kill('SIGKILL')
  }
}

/** One check for each rung. It fails if neither the handshake nor the stream works. */
export function findings(attempts: readonly Attempt[]): Check[] {
  const works = (rung: Rung): boolean => attempts.some((one) => one.rung === rung && one.took !== undefined)
  return attempts.map((attempt) => finding(attempt, works))
}

function finding({ rung, took, error }: Attempt, works: (rung: Rung) => boolean): Check {
  const check = `try-${rung}`
  if (took !== undefined)
    return {
      check,
      status: 'ok',
      detail: `another process received a message after ${took.toFixed(1)} ms`,
      advice: '',
    }
  const detail = error ?? 'no message'
  if (rung === 'direct') return { check, status: 'warn', detail, advice: 'none needed as long as the handshake works' }
  if (rung === 'stream' && works('handshake'))
    return { check, status: 'warn', detail, advice: 'none needed as long as memory can be shared' }
  if (rung === 'handshake' && works('stream'))
    return {
      check,
      status: 'warn',
      detail,
      advice: 'topics are streamed, which costs a copy through the kernel for each message',
    }
  return {
    check,
    status: 'fail',
    detail,
    advice: 'topics of other processes cannot be read here; see the findings above',
  }
}
