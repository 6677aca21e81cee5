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

/** What a failure is about, if that is not the command. */
const abouts = new WeakMap<object, string>()

/** Runs a step on a file that a process needs. Its failure is told by the name of that file. */
export function aboutFile<R>(role: string, path: string, step: () => R): R {
  try {
    return step()
  } catch (error) {
    if (typeof error === 'object' && error !== null) abouts.set(error, `${role} '${path}'`)
    throw error
  }
}

const FILE_ADVICE: Readonly<Record<string, string>> = {
  ENOENT: 'there is no such folder.',
  ENOTDIR: 'that is no folder.',
  EISDIR: 'that is a folder.',
  EACCES: 'this user may not do that.',
}

const ADVICE: Readonly<Record<string, string>> = {
  ENOENT: 'is there such a command?',
  EACCES: 'it is not executable, or not for this user.',
  EPERM: 'this user may not do that.',
  EAGAIN: 'processes ran out; raise the limit (ulimit -u, pids.max of the cgroup).',
  EMFILE: 'descriptors ran out; raise the limit (ulimit -n).',
  ENFILE: 'descriptors of the machine ran out.',
  ENOMEM: 'memory ran out.',
}

/** An error of `child_process.spawn`, or of its output file or working directory. */
export function spawnError(command: string, cause: unknown): RingbellError {
  const code = (cause as NodeJS.ErrnoException | undefined)?.code ?? ''
  const number: number | undefined = constants.errno[code as keyof typeof constants.errno]
  const about = typeof cause === 'object' && cause !== null ? abouts.get(cause) : undefined
  const advice = (about === undefined ? undefined : FILE_ADVICE[code]) ?? ADVICE[code] ?? 'see the cause.'
  const what = `${about === undefined ? '' : `${about} `}(${code === '' ? String(cause) : code}): ${advice}`
  return new RingbellError(
    CODES[code] ?? 'ERR_RINGBELL_SYSTEM',
    `Cannot start '${command}'${about === undefined ? ' ' : '; '}${what}`,
    { cause, syscall: 'spawn', errno: number === undefined ? undefined : -number },
  )
}
