/**
 * Runs a command while this process holds something for it (a claim, a lock, permits). The command never outlives what is held, unless this
 * process is killed: every signal is passed on to the command, and this process ends after it. If what is held is lost, the
 * command is ended.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { constants } from 'node:os'
import { interruption } from './interruption.js'
import { complain } from './paint.js'

const PASSED_ON = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2'] as const
/** A terminal sends them to every process in its foreground, and so to the command itself. */
const FROM_TERMINAL: readonly string[] = ['SIGINT', 'SIGQUIT']
/** Milliseconds that the command has to end after SIGTERM, when what is held is lost. */
const GRACE_MS = 3000
/** What shells add to the number of a signal. */
const BY_SIGNAL = 128

/**
 * The exit code of the command, or 128 plus the number of the signal that ended it. `environment` is added to that of this
 * process.
 *
 * @throws The reason with which `lost` resolves, after the command has ended (locks are not lost); what `spawn` fails with.
 */
export async function runGuarded(
  [command = '', ...args]: readonly string[],
  environment: Readonly<Record<string, string>>,
  lost?: Promise<Error>,
): Promise<number> {
  const child = spawn(command, args, { stdio: 'inherit', env: { ...process.env, ...environment } })
  const ended = exitOf(child)
  const restore = passSignals(child)
  let timer: NodeJS.Timeout | undefined
  let reason: Error | undefined
  const endWhen = async (lost: Promise<Error>): Promise<void> => {
    reason = await lost
    child.kill()
    timer = setTimeout(() => child.kill('SIGKILL'), GRACE_MS)
  }
  if (lost !== undefined) void endWhen(lost)
  try {
    const [code, signal] = await ended
    if (reason !== undefined) throw reason
    return signal === null ? (code ?? 0) : BY_SIGNAL + constants.signals[signal]
  } finally {
    clearTimeout(timer)
    restore()
  }
}

/**
 * With what the command ends. Rejects only if it cannot be started: later errors say that a signal could not be sent (the command runs as
 * another user, for example), and the command runs on.
 */
export function exitOf(child: ChildProcess): Promise<[code: number | null, signal: NodeJS.Signals | null]> {
  return new Promise((resolve, reject) => {
    child.once('exit', (code, signal) => resolve([code, signal]))
    child.on('error', (error) => {
      if (child.pid === undefined) reject(error)
      else complain(error)
    })
  })
}

/** From now on signals are the command's business. The returned function undoes it. */
function passSignals(child: ChildProcess): () => void {
  const listeners = PASSED_ON.map((name) => {
    const listener = (): void => {
      if (!process.stdin.isTTY || !FROM_TERMINAL.includes(name)) child.kill(name)
    }
    process.on(name, listener)
    return [name, listener] as const
  })
  // Signals would end this process otherwise, the second one without waiting for the command.
  interruption().dispose()
  return () => {
    for (const [name, listener] of listeners) process.off(name, listener)
  }
}
