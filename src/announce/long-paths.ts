/**
 * Paths of sockets that are too long for the kernel, which takes 107 bytes: reached through a descriptor of their directory. A
 * descriptor stays open while a record names a socket there, because a request that waits for its connection uses the path later.
 */
import { closeSync, constants, fstatSync, openSync, statSync } from 'node:fs'
import { basename, dirname } from 'node:path'

const MOST = 107
/** Not in Node's constants. It needs no right to read the directory. The number is the same on every architecture that we build for. */
const O_PATH = 0o10000000

export class LongPaths {
  readonly #directories = new Map<string, number>()
  readonly #named: () => Iterable<string>

  /** `named`: the paths that records name now. It is asked when another directory is opened. */
  constructor(named: () => Iterable<string>) {
    this.#named = named
  }

  /** The path, or a short one that leads to the same socket. @throws what `openSync` and `statSync` throw. */
  shortened(path: string): string {
    if (Buffer.byteLength(path) <= MOST) return path
    const directory = dirname(path)
    const known = this.#directories.get(directory)
    const fd = known !== undefined && isAt(known, directory) ? known : this.#open(directory)
    return `/proc/self/fd/${fd}/${basename(path)}`
  }

  #open(directory: string): number {
    const wanted = new Set([...this.#named()].map(dirname))
    for (const [path, fd] of this.#directories) if (path === directory || !wanted.has(path)) this.#drop(path, fd)
    const fd = openSync(directory, O_PATH | constants.O_DIRECTORY)
    this.#directories.set(directory, fd)
    return fd
  }

  #drop(path: string, fd: number): void {
    this.#directories.delete(path)
    closeSync(fd)
  }

  close(): void {
    for (const fd of this.#directories.values()) closeSync(fd)
    this.#directories.clear()
  }
}

/** Whether the descriptor is that of the directory that is there now. It may have been removed and made again. */
function isAt(fd: number, directory: string): boolean {
  const now = statSync(directory, { bigint: true, throwIfNoEntry: false })
  const then = fstatSync(fd, { bigint: true })
  return now !== undefined && now.dev === then.dev && now.ino === then.ino
}
