/** How a process ended, and the errors of processes that cannot be started or end too early. */
import { constants } from 'node:os'
import { RingbellError, type RingbellErrorCode } from '../errors.js'

/** Whether a process has ended, and how. */
export interface ExitStatus {
  /** `false`: it still runs. */
  readonly exited: boolean
  /** Its exit code; `null` if a signal ended it, it still runs, or it is not a child of this process. */
  readonly exitCode: number | null
  /** The signal that ended it, or `null`. */
  readonly signal: NodeJS.Signals | null
}

export const RUNNING: ExitStatus = Object.freeze({ exited: false, exitCode: null, signal: null })

/** In words: `with exit code 3`. */
export function howItEnded({ exitCode, signal }: ExitStatus): string {
  if (signal !== null) return `by ${signal}`
  return exitCode === null ? 'without telling how' : `with exit code ${exitCode}`
}

/** `cause` has the exit status, and the last lines of stderr. */
export function exitedError(what: string, status: ExitStatus, stderr: readonly string[]): RingbellError {
  const lines = stderr.map((line) => `\n  ${line}`).join('')
  return new RingbellError('ERR_RINGBELL_EXITED', `${what} ended ${howItEnded(status)}${lines}`, {
    cause: { ...status, stderr },
  })
}

const CODES: Readonly<Record<string, RingbellErrorCode>> = {
  EAGAIN: 'ERR_RINGBELL_RESOURCE',
  EMFILE: 'ERR_RINGBELL_RESOURCE',
  ENFILE: 'ERR_RINGBELL_RESOURCE',
  ENOMEM: 'ERR_RINGBELL_RESOURCE',
  EACCES: 'ERR_RINGBELL_NO_PERMISSION',
  EPERM: 'ERR_RINGBELL_NO_PERMISSION',
}

const ADVICE: Readonly<Record<string, string>> = {
  ENOENT: 'is there such a command, and such a cwd?',
  EACCES: 'it is not executable, or not for this user.',
  EPERM: 'this user may not do that.',
  EAGAIN: 'processes ran out; raise the limit (ulimit -u, pids.max of the cgroup).',
  EMFILE: 'descriptors ran out; raise the limit (ulimit -n).',
  ENFILE: 'descriptors of the machine ran out.',
  ENOMEM: 'memory ran out.',
}

/** An error of `child_process.spawn`, or of a file that the child was to write to. */
export function spawnError(command: string, cause: unknown): RingbellError {
  const code = (cause as NodeJS.ErrnoException | undefined)?.code ?? ''
  const number: number | undefined = constants.errno[code as keyof typeof constants.errno]
  return new RingbellError(
    CODES[code] ?? 'ERR_RINGBELL_SYSTEM',
    `Cannot start '${command}' (${code === '' ? String(cause) : code}): ${ADVICE[code] ?? 'see the cause.'}`,
    { cause, syscall: 'spawn', errno: number === undefined ? undefined : -number },
  )
}
