// @ts-check
/**
 * What the demo streams: the machine's own counters. A message is one reading of one file of /proc: a byte that says
 * which, then the text as the kernel gave it.
 */
import { closeSync, openSync, readSync } from 'node:fs'

/** Files, and how their text begins, by which the checker tells that a message is whole. */
export const FILES = [
  { path: '/proc/stat', begins: /^cpu / },
  { path: '/proc/meminfo', begins: /^MemTotal:/ },
  { path: '/proc/net/dev', begins: /^Inter-\|/ },
  { path: '/proc/vmstat', begins: /^nr_free_pages / },
  { path: '/proc/loadavg', begins: /^\d/ },
]

export const KIND = { stat: 0, memory: 1, network: 2, vm: 3, load: 4 }

/** More than any of the files has, even with hundreds of CPUs. */
const LARGEST = 256 * 1024

/** Reads the files again and again through descriptors that stay open. */
export class Reader {
  #descriptors = FILES.map(({ path }) => openSync(path, 'r'))
  #buffer = Buffer.allocUnsafe(LARGEST)

  /** The message of one file; valid until the next call. @param {number} kind index in FILES */
  read(kind) {
    this.#buffer[0] = kind
    const length = readSync(this.#descriptors[kind] ?? -1, this.#buffer, 1, LARGEST - 1, 0)
    return this.#buffer.subarray(0, 1 + length)
  }

  close() {
    for (const descriptor of this.#descriptors) closeSync(descriptor)
  }
}

/** The text of a message. @param {Uint8Array} message */
export function textOf(message) {
  return Buffer.from(message.buffer, message.byteOffset + 1, message.byteLength - 1).toString('latin1')
}
