/**
 * Ties a process to the life of this one, even if this one is killed by SIGKILL. Node cannot ask the kernel for that
 * (`PR_SET_PDEATHSIG` has to be set by the child itself, and goes by threads), so a shell does it: it starts a guard in the
 * background, and then becomes the command. The guard reads a pipe whose other end only this process has. When that end is
 * gone, the guard kills. It is no child of the command, which may wait for all of its children.
 *
 * The command leads a session and process group of its own, and the guard is in that group. A number stands for that group
 * as long as the guard lives, so the guard cannot hit anybody else. What leaves the group (a daemon that makes a session of
 * its own) is not reached. A shell gives on only variables whose names it could have itself (`a.b` is none).
 */
import { accessSync, constants, statSync } from 'node:fs'
import { delimiter, isAbsolute, join, resolve } from 'node:path'
import type { Socket } from 'node:net'

/**
 * What ends with this process, however it ends. `'none'`: nothing, so that the process lives on. `'process'`: the process.
 * `'tree'`: the process and what it has started, and what it has started also ends with the process itself.
 */
export type Tied = 'none' | 'process' | 'tree'

const SHELL = '/bin/sh'
/** A line says that all is well; the end of the pipe says that nobody is left to say so. */
const guard = (kill: string): string =>
  `( (trap '' HUP INT QUIT TERM; exec <&3 3<&- >&- 2>&-; read -r _ || kill -KILL ${kill}) & ); exec "$@" 3<&-`
const SCRIPTS = { process: guard('$$'), tree: guard('0') } as const

/** The command line of a tied process. Descriptor 3 must be a pipe. */
export function tiedCommand(
  tied: 'process' | 'tree',
  command: string,
  args: readonly string[],
): [command: string, args: string[]] {
  return [SHELL, ['-c', SCRIPTS[tied], 'ringbell-guard', command, ...args]]
}

/** This process's end of the guard's pipe. */
export class Tie {
  readonly #tied: 'process' | 'tree'
  readonly #pipe: Socket

  constructor(tied: 'process' | 'tree', pipe: Socket) {
    this.#tied = tied
    this.#pipe = pipe
    // The process itself keeps this one alive, as every child does.
    pipe.unref()
    // A program that closes the other end closes it for its whole group.
    pipe.on('error', () => {})
    pipe.resume()
  }

  /** Kills all of the tree; with `'process'` nothing happens, because a signal reaches all of it. */
  cut(): void {
    if (this.#tied === 'tree') this.#pipe.destroy()
  }

  /** The process has ended. What it left behind goes with `'tree'`, and stays with `'process'`. */
  end(): void {
    if (this.#tied === 'tree') this.#pipe.destroy()
    else this.#pipe.end('\n', () => this.#pipe.destroy())
  }
}

/** A name of a variable that a shell gives on. */
export const SHELL_NAME = /^[A-Za-z_]\w*$/

/**
 * What the shell could not tell apart from a command that fails: that there is no such command.
 *
 * @throws As `child_process.spawn` fails.
 */
export function checkCommand(command: string, cwd: string | undefined, path: string | undefined): void {
  const folder = resolve(cwd ?? '.')
  if (command.includes('/')) return mayRun(isAbsolute(command) ? command : join(folder, command))
  let failure: unknown = noSuch('ENOENT', command)
  for (const place of (path ?? '/bin:/usr/bin').split(delimiter)) {
    try {
      return mayRun(join(place === '' ? folder : resolve(folder, place), command))
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EACCES') failure = error
    }
  }
  throw failure
}

function mayRun(file: string): void {
  accessSync(file, constants.X_OK)
  if (statSync(file).isDirectory()) throw noSuch('EACCES', file)
}

function noSuch(code: string, path: string): NodeJS.ErrnoException {
  return Object.assign(new Error(`${code}: ${path}`), { code, path })
}
