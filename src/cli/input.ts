/**
 * The messages that a command sends: one message from the command line, or a stream (stdin or a file) that is cut into
 * lines or frames, or taken as one message. Also the options for that, shared by several commands.
 */
import { type FileHandle, open } from 'node:fs/promises'
import { addAbortSignal, type Readable } from 'node:stream'
import { type Command, Option } from 'commander'
import { CommandError } from './exit-codes.js'
import { FrameSplitter, type Limit, LineSplitter, type Splitter, WholeSplitter } from './splitter.js'

export interface InputFlags {
  file?: string
  binary?: boolean
  whole?: boolean
}

/** Adds the argument and the options. */
export function withInput(command: Command, thing: string): Command {
  return withFile(command.argument('[data]', `one ${thing}; '-' is stdin (default: every line of stdin)`))
    .addOption(
      new Option('-b, --binary', 'frames instead of lines: u32 little-endian length, then that many bytes').conflicts(
        'whole',
      ),
    )
    .option('--whole', `take the whole input as one ${thing}: ringbell ${command.name()} NAME --whole --file a.png`)
}

export function withFile(command: Command): Command {
  return command.option('-f, --file <path>', 'read from a file instead of stdin')
}

export class Input {
  /** Whether a person types the input. */
  readonly isTyped: boolean
  readonly #source: Uint8Array | Readable
  readonly #flags: InputFlags
  readonly #file: FileHandle | undefined

  /** Opens the file, if one is given. A command calls this first, so that a wrong name is its only effect. */
  static async open(data: string | undefined, flags: InputFlags, signal: AbortSignal): Promise<Input> {
    const { file: path, binary = false } = flags
    if (data !== undefined && (path !== undefined || (binary && data !== '-')))
      throw new CommandError(
        'ERR_RINGBELL_INVALID_OPTION',
        `The message is on the command line, so ${path === undefined ? '--binary' : '--file'} cannot be given as well`,
      )
    if (data !== undefined && data !== '-') return new Input(Buffer.from(data), flags)
    const file = path === undefined ? undefined : await open(path)
    return new Input(addAbortSignal(signal, file?.createReadStream({ autoClose: false }) ?? process.stdin), flags, file)
  }

  private constructor(source: Uint8Array | Readable, flags: InputFlags, file?: FileHandle) {
    this.#source = source
    this.#flags = flags
    this.#file = file
    this.isTyped = !(source instanceof Uint8Array) && source === process.stdin && process.stdin.isTTY
  }

  /** The messages, as they come in. */
  async *messages(limit: Limit): AsyncGenerator<Iterable<Uint8Array>, void> {
    const splitter = this.#splitter(limit)
    if (this.#source instanceof Uint8Array) yield splitter.push(this.#source)
    else for await (const chunk of this.#source as AsyncIterable<Uint8Array>) yield splitter.push(chunk)
    const last = splitter.end()
    if (last !== undefined) yield [last]
  }

  /** The whole input as one message. */
  async whole(limit: Limit): Promise<Uint8Array> {
    for await (const messages of this.messages(limit)) for (const message of messages) return message
    throw new Error('there is no message')
  }

  async close(): Promise<void> {
    if (!(this.#source instanceof Uint8Array)) this.#source.destroy()
    await this.#file?.close()
  }

  #splitter(limit: Limit): Splitter {
    const { whole = false, binary = false } = this.#flags
    if (whole || this.#source instanceof Uint8Array) return new WholeSplitter(limit)
    return binary ? new FrameSplitter(limit) : new LineSplitter(limit)
  }
}
