/**
 * Where the output of a process goes: to this process's own, to nowhere, to streams, to files, or line by line to a
 * function. The last lines of stderr are kept where this process reads them anyway, for the errors of early exits.
 */
import { closeSync, openSync } from 'node:fs'
import type { Readable } from 'node:stream'
import { StringDecoder } from 'node:string_decoder'
import { check, plainObject, type Rule, type Rules } from '../check.js'
import { inSteps } from '../closing.js'
import { waitFor } from '../wait/waiting.js'
import { aboutFile } from './exit.js'

/** Gets each line of output, without its end. While a promise that it returns is pending, no more is read. */
export type LineListener = (line: string, stream: 'stdout' | 'stderr') => unknown

/** `'pipe'`: a stream of the handle, which you must read. A file is appended to; rotating it is not done here. */
export type OutputTarget = 'inherit' | 'ignore' | 'pipe' | LineListener | { readonly file: string }

/** Each of the three by itself. */
export interface StdioOptions {
  /** `'ignore'` by default. */
  stdin?: 'inherit' | 'ignore' | 'pipe' | undefined
  /** `'inherit'` by default. */
  stdout?: OutputTarget | undefined
  /** `'inherit'` by default. */
  stderr?: OutputTarget | undefined
}

/** One target for stdout and stderr, or each by itself. */
export type StdioOption = OutputTarget | StdioOptions

const WORDS = ['inherit', 'ignore', 'pipe']
const OUTPUT: Rule = (value) => {
  if (WORDS.includes(value as string) || typeof value === 'function') return undefined
  const file = plainObject(value) === undefined ? (value as { file?: unknown }).file : undefined
  return typeof file === 'string' && file !== '' && !file.includes('\0')
    ? undefined
    : `must be one of 'inherit', 'ignore', 'pipe', a function, { file: path }`
}
const STDIO: Rules = {
  stdin: (value) => (WORDS.includes(value as string) ? undefined : `must be one of 'inherit', 'ignore', 'pipe'`),
  stdout: OUTPUT,
  stderr: OUTPUT,
}

export const stdio: Rule = (value) => {
  if (plainObject(value) !== undefined || 'file' in (value as object)) {
    const broken = OUTPUT(value)
    return broken === undefined ? undefined : `${broken}, or { stdin, stdout, stderr }`
  }
  check(value, STDIO, 'stdio.')
  return undefined
}

/** What `child_process.spawn` takes, the files that were opened for it, and what is to be read here. */
export interface StdioPlan {
  readonly stdio: ('inherit' | 'ignore' | 'pipe' | number)[]
  readonly listeners: { readonly stdout?: LineListener; readonly stderr?: LineListener }
  /** The child has its own descriptors now, or there is no child. */
  closeFiles(): void
}

/** @throws What opening a file fails with. */
export function planOf(option: StdioOption | undefined): StdioPlan {
  const { stdin = 'ignore', stdout = 'inherit', stderr = 'inherit' } = optionsOf(option)
  const files: number[] = []
  const closeFiles = (): void => inSteps(...files.splice(0).map((fd) => () => closeSync(fd)))
  const target = (output: OutputTarget): 'inherit' | 'ignore' | 'pipe' | number => {
    if (typeof output === 'string') return output
    if (typeof output === 'function') return 'pipe'
    const fd = aboutFile('its output goes to', output.file, () => openSync(output.file, 'a'))
    files.push(fd)
    return fd
  }
  try {
    return {
      stdio: [stdin, target(stdout), target(stderr)],
      listeners: {
        ...(typeof stdout === 'function' ? { stdout } : {}),
        ...(typeof stderr === 'function' ? { stderr } : {}),
      },
      closeFiles,
    }
  } catch (error) {
    closeFiles()
    throw error
  }
}

function optionsOf(option: StdioOption | undefined): StdioOptions {
  if (option === undefined) return {}
  if (typeof option === 'object' && !('file' in option)) return option
  return { stdout: option, stderr: option, ...(option === 'pipe' || option === 'inherit' ? { stdin: option } : {}) }
}

/** A line is cut after so many characters, so that output without line ends does not fill the memory. */
const LONGEST_LINE = 65_536
const KEPT_LINES = 10
const KEPT_LENGTH = 500

/** Reads a stream line by line. */
export class LineReader {
  /** The last lines, cut. */
  readonly last: string[] = []
  readonly #stream: Readable
  /** Resolves when the stream has ended, or was given up. */
  readonly #ended: Promise<void>
  #rest = ''
  /** Promises of the listener that are pending. */
  #pending = 0
  #hurries = false

  constructor(stream: Readable, listener: (line: string) => unknown) {
    this.#stream = stream
    const decoder = new StringDecoder('utf8')
    const tell = (line: string): void => {
      this.last.push(line.slice(0, KEPT_LENGTH))
      if (this.last.length > KEPT_LINES) this.last.shift()
      const taken = listener(line)
      if (taken instanceof Promise) this.#waitFor(taken)
    }
    stream.on('data', (chunk: Buffer) => {
      const lines = (this.#rest + decoder.write(chunk)).split('\n')
      this.#rest = lines.pop() ?? ''
      for (const line of lines) tell(line)
      for (; this.#rest.length > LONGEST_LINE; this.#rest = this.#rest.slice(LONGEST_LINE))
        tell(this.#rest.slice(0, LONGEST_LINE))
    })
    this.#ended = new Promise((resolve) => {
      stream.on('close', () => {
        const line = this.#rest + decoder.end()
        this.#rest = ''
        if (line !== '') tell(line)
        resolve()
      })
    })
  }

  /**
   * The writer has ended: reads what is left at once. Something that it has started may have the other end, too, so after these
   * milliseconds the stream is given up.
   */
  async finish(limit: number): Promise<void> {
    this.#hurries = true
    this.#stream.resume()
    await waitFor(
      (waiting) => {
        void this.#ended.then(() => waiting.resolve())
        return () => {}
      },
      { timeout: limit },
    ).catch(() => this.#stream.destroy())
    return this.#ended
  }

  #waitFor(taken: Promise<unknown>): void {
    this.#pending++
    if (!this.#hurries) this.#stream.pause()
    // A rejection is unhandled, as what the listener throws is uncaught.
    void taken.finally(() => {
      if (--this.#pending === 0) this.#stream.resume()
    })
  }
}
