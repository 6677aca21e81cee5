/** Runs a task in two child processes on a bus of their own, and removes everything afterwards. */
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { chmod, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { CommandError } from '../exit-codes.js'
import { type Cpus, pinned } from './pinning.js'
import type { Part, RoundTrips, Task, Throughput } from './tasks.js'

const ENDPOINT = new URL('./endpoint.js', import.meta.url)
/** Milliseconds for starting and ending, besides the measurement itself. */
const PATIENCE_MS = 15_000

type Answer = { result: unknown } | { error: string }

/** Returns the result of the process that measures: the first one of a round trip, the second one of a stream. */
export async function runPair(
  task: Task,
  size: number,
  duration: number,
  cpus: Cpus | undefined,
  signal: AbortSignal,
): Promise<Throughput | RoundTrips> {
  const path = await mkdtemp(join(tmpdir(), 'ringbell-bench-'))
  const late = AbortSignal.timeout(duration * 2 + PATIENCE_MS)
  const children: ChildProcess[] = []
  try {
    // The umask may have taken away the right to enter it.
    await chmod(path, 0o700)
    const roles = ['first', 'second'] as const
    const answers = roles.map((role, at) => {
      const child = fork(ENDPOINT, { stdio: ['ignore', 'ignore', 'inherit', 'ipc'], ...pinned(cpus?.[at]) })
      children.push(child)
      return answerOf(child, { task, role, path, size, duration }, AbortSignal.any([signal, late]))
    })
    const [first, second] = await Promise.all(answers)
    return (task.kind === 'throughput' ? second : first) as Throughput | RoundTrips
  } catch (error) {
    throw late.aborted ? new CommandError('ERR_RINGBELL_TIMEOUT', `The ${task.kind} measurement did not end`) : error
  } finally {
    await Promise.all(children.map(end))
    await rm(path, { recursive: true, force: true })
  }
}

/**
 * Kills a child if need be, and waits for its end. Its bus must not be removed before, because the child would create
 * it again.
 */
async function end(child: ChildProcess): Promise<void> {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return
  const gone = once(child, 'exit')
  child.kill('SIGKILL')
  await gone
}

function answerOf(child: ChildProcess, part: Part, signal: AbortSignal): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const failed = (reason: string): void =>
      reject(new CommandError('ERR_BENCH', `The benchmark's ${part.role} process ${reason}`))
    signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true })
    child.once('error', reject)
    child.once('exit', (code, killed) => failed(`ended with ${killed ?? `code ${code}`}`))
    child.once('message', (answer: Answer) => {
      if ('error' in answer) failed(`failed: ${answer.error}`)
      else resolve(answer.result)
    })
    child.send(part)
  })
}
