/** Starts a process, by Node's own means, and holds it by a pidfd before Node can have reaped it. */
import { type ChildProcess, spawn as spawnChild, type SpawnOptions as ChildOptions } from 'node:child_process'
import { once } from 'node:events'
import { accessSync, constants, statSync } from 'node:fs'
import type { Socket } from 'node:net'
import { check, flag, integer, oneOf, plainObject, type Rule, type Rules, text } from '../check.js'
import { fromNative, isRingbellError } from '../errors.js'
import { invalid } from '../invalid.js'
import { binding } from '../native.js'
import { aboutFile, spawnError } from './exit.js'
import { ProcessHandle } from './process.js'
import { LineReader, planOf, stdio, type StdioOption, type StdioPlan } from './stdio.js'
import { checkCommand, SHELL_NAME, Tie, type Tied, tiedCommand } from './tie.js'

/** How to start a process. */
export interface SpawnOptions {
  /** The working directory; by default that of this process. */
  cwd?: string | undefined
  /**
   * Variables that are added to the environment of this process; `undefined` takes one away. For what is `tied`, their names have only
   * letters, digits and `_`: a shell stands between, which drops others, also those of this process.
   */
  env?: Readonly<Record<string, string | undefined>> | undefined
  /** Where its output goes; by default to that of this process. */
  stdio?: StdioOption | undefined
  /** The user to run as; needs root. */
  uid?: number | undefined
  /** The group to run as; needs root. */
  gid?: number | undefined
  /** What ends with this process, even if this one is killed; `'none'` by default. */
  tied?: Tied | undefined
  /** In a session and process group of its own, so that Ctrl-C in a terminal does not reach it; a tied one always is. */
  detached?: boolean | undefined
}

const ID = integer(0, 2 ** 32 - 2)
const NUL = 'must not have a NUL character'
const hasNul = (value: unknown): boolean => typeof value === 'string' && value.includes('\0')
const path: Rule = (value) => (hasNul(value) ? NUL : text(4096)(value))
const env: Rule = (value) => {
  if (plainObject(value) !== undefined) return 'must be an object of strings'
  for (const [name, one] of Object.entries(value as object)) {
    if (one !== undefined && typeof one !== 'string') throw invalid(`env.${name}`, one, 'must be a string')
    if (hasNul(name) || hasNul(one)) throw invalid(`env.${name}`, one, NUL)
    if (name === '' || name.includes('=')) throw invalid('env', value, `must not have the name '${name}'`)
  }
  return undefined
}
export const SPAWN: Rules = {
  cwd: path,
  env,
  stdio,
  uid: ID,
  gid: ID,
  tied: oneOf('none', 'process', 'tree'),
  detached: flag,
}

/** What the rules of single options cannot see. */
export function checkCommandLine(command: unknown, args: unknown, { tied = 'none', env = {} }: SpawnOptions): void {
  if (typeof command !== 'string' || command === '')
    throw invalid('command', command, 'must be a command, or a path of one')
  if (hasNul(command)) throw invalid('command', command, NUL)
  if (!Array.isArray(args)) throw invalid('args', args, 'must be a list of strings')
  for (const [at, one] of (args as unknown[]).entries()) {
    if (typeof one !== 'string') throw invalid(`args[${at}]`, one, 'must be a string')
    if (hasNul(one)) throw invalid(`args[${at}]`, one, NUL)
  }
  for (const [name, value] of Object.entries(env))
    if (tied !== 'none' && value !== undefined && !SHELL_NAME.test(name))
      throw invalid(`env.${name}`, value, 'cannot be given to a tied process: a shell drops names like this one')
}

/**
 * Starts a process. Resolves when it runs.
 *
 * Rejects with `ERR_RINGBELL_SYSTEM` (`errno` is that of ENOENT if there is no such command), `ERR_RINGBELL_NO_PERMISSION`,
 * `ERR_RINGBELL_RESOURCE`, `ERR_RINGBELL_INVALID_OPTION`.
 */
export async function spawn(
  command: string,
  args: readonly string[] = [],
  options: SpawnOptions = {},
): Promise<ProcessHandle> {
  check(options, SPAWN)
  checkCommandLine(command, args, options)
  let plan: StdioPlan | undefined
  try {
    plan = planOf(options.stdio)
    return await started(command, args, options, plan)
  } catch (error) {
    throw ours(command, error)
  } finally {
    plan?.closeFiles()
  }
}

async function started(
  command: string,
  args: readonly string[],
  { cwd, env, uid, gid, tied = 'none', detached = false }: SpawnOptions,
  plan: StdioPlan,
): Promise<ProcessHandle> {
  const environment = { ...process.env, ...env }
  const childOptions: ChildOptions = {
    cwd,
    env: environment,
    stdio: tied === 'none' ? plan.stdio : [...plan.stdio, 'pipe'],
    detached: detached || tied !== 'none',
    ...(uid === undefined ? {} : { uid }),
    ...(gid === undefined ? {} : { gid }),
  }
  if (cwd !== undefined) aboutFile('it cannot work in', cwd, () => checkFolder(cwd))
  if (tied !== 'none') checkCommand(command, cwd, environment['PATH'])
  const [file, words] = tied === 'none' ? [command, [...args]] : tiedCommand(tied, command, args)
  const child = spawnChild(file, words, childOptions)
  const { pid } = child
  if (pid === undefined) {
    const [error] = (await once(child, 'error')) as [Error]
    throw error
  }
  return held(child, pid, command, tied, plan)
}

/** Node would blame the command. */
function checkFolder(path: string): void {
  if (!statSync(path).isDirectory()) throw Object.assign(new Error(`ENOTDIR: ${path}`), { code: 'ENOTDIR', path })
  accessSync(path, constants.X_OK)
}

/** In the turn of the event loop in which it was started, so that its number is still its own. */
function held(child: ChildProcess, pid: number, command: string, tied: Tied, plan: StdioPlan): ProcessHandle {
  // Failures to signal it are told by those who signal.
  child.on('error', () => {})
  const tie = tied === 'none' ? undefined : new Tie(tied, child.stdio[3] as Socket)
  const read = (name: 'stdout' | 'stderr'): LineReader | undefined => {
    const [stream, listener] = [child[name], plan.listeners[name]]
    return stream === null || listener === undefined
      ? undefined
      : new LineReader(stream, (line) => listener(line, name))
  }
  const output = { stdout: read('stdout'), stderr: read('stderr') }
  try {
    return new ProcessHandle({ pid, command, native: binding().NativeProcess.open(pid), child, tie, output })
  } catch (error) {
    tie?.cut()
    child.kill('SIGKILL')
    throw error
  }
}

function ours(command: string, error: unknown): unknown {
  const known = fromNative(error)
  return isRingbellError(known) ? known : spawnError(command, error)
}
