/**
 * Paths of sockets that are too long for the kernel, which takes 107 bytes: reached through a descriptor of their directory. The
 * descriptors stay open as long as the bus, because a request that waits for its connection uses the path later.
 */
import { closeSync, constants, openSync } from 'node:fs'
import { basename, dirname } from 'node:path'

const MOST = 107
/** Not in Node's constants. It needs no right to read the directory. The number is the same on every architecture that we build for. */
const O_PATH = 0o10000000

export class LongPaths {
  readonly #directories = new Map<string, number>()

  /** The path, or a short one that leads to the same socket. @throws what `openSync` throws. */
  shortened(path: string): string {
    if (Buffer.byteLength(path) <= MOST) return path
    const directory = dirname(path)
    let fd = this.#directories.get(directory)
    if (fd === undefined) {
      fd = openSync(directory, O_PATH | constants.O_DIRECTORY)
      this.#directories.set(directory, fd)
    }
    return `/proc/self/fd/${fd}/${basename(path)}`
  }

  close(): void {
    for (const fd of this.#directories.values()) closeSync(fd)
    this.#directories.clear()
  }
}
