/**
 * The last check of the doctor: can a message get from one process to another here? We publish in a private domain of
 * that bus, or on a bus of our own if we may not write there, and a child subscribes by each rung. The child is the subscriber because Yama lets a parent do what it
 * forbids to others.
 */
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { rm, rmdir } from 'node:fs/promises'
import { join } from 'node:path'
import { Bus, type Check, type Rung } from '../../index.js'
import { onOwnBus } from './own-bus.js'

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
  const domain = `doctor-${process.pid}`
  let bus: Bus
  try {
    bus = await Bus.open({ path, domain })
  } catch (error) {
    // It may have been made before it could not be opened.
    await rmdir(join(path, domain)).catch(() => {})
    return [guest(error), ...(await onOwnBus((own) => passMessages(own, signal)))]
  }
  const folder = bus.path
  try {
    return await passMessages(bus, signal)
  } finally {
    await bus.close()
    // Mostly it is empty, and then it goes although nothing can be opened any more.
    await rmdir(folder).catch(() => rm(folder, { recursive: true, force: true }))
  }
}

/** On a bus that nobody else uses. */
export async function passMessages(bus: Bus, signal: AbortSignal): Promise<Check[]> {
  try {
    const publisher = await bus.publisher(TOPIC, { capacity: 4096 })
    publisher.send(Buffer.from('well'))
    return findings(await attempts(bus.path, signal))
  } catch (error) {
    signal.throwIfAborted()
    return [{ check: 'try-out', status: 'fail', detail: (error as Error).message, advice: 'see the findings above' }]
  }
}

/** This user may look at the bus, and not write to it. */
function guest(error: unknown): Check {
  return {
    check: 'announcing',
    status: 'warn',
    detail: `this user can announce nothing here, so messages are tried in a directory of its own: ${(error as Error).message}`,
    advice: 'none needed to subscribe and to call; to announce, use a bus of your own or one that a group shares',
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
