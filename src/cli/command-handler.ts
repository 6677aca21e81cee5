/**
 * Answers requests by running a command, as inetd does: one process for each request. The process reads the request
 * from stdin and writes the reply to stdout; its exit code says whether it succeeded. If the caller gives up, the
 * process is killed. The number of processes at once is limited; further requests wait.
 */
import { type ChildProcessByStdio, spawn } from 'node:child_process'
import { once } from 'node:events'
import type { Readable, Writable } from 'node:stream'
import type { CallContext, Connection } from '../index.js'
import { CommandError } from './exit-codes.js'

type Child = ChildProcessByStdio<Writable, Readable, null>

export class CommandHandler {
  readonly #command: string
  readonly #args: readonly string[]
  readonly #service: string
  #free: number
  readonly #waiting: (() => void)[] = []

  constructor(service: string, [command = '', ...args]: readonly string[], jobs: number) {
    this.#service = service
    this.#command = command
    this.#args = args
    this.#free = jobs
  }

  /** The whole output of the command, after it has ended without an error. */
  async reply(request: Uint8Array, context: CallContext<Connection>): Promise<Uint8Array> {
    const chunks: Uint8Array[] = []
    for await (const chunk of this.stream(request, context)) chunks.push(chunk)
    return Buffer.concat(chunks)
  }

  /** The output of the command, as it comes. */
  async *stream(request: Uint8Array, context: CallContext<Connection>): AsyncGenerator<Uint8Array, void> {
    const { signal } = context
    await this.#turn()
    try {
      if (signal.aborted) return
      const child = this.#start(request, context)
      const kill = (): void => void child.kill()
      signal.addEventListener('abort', kill, { once: true })
      try {
        const ended = once(child, 'close') as Promise<[number | null, NodeJS.Signals | null]>
        // It may fail before the code below waits for it. The error is handled there.
        ended.catch(() => {})
        for await (const chunk of child.stdout as AsyncIterable<Uint8Array>) yield chunk
        const [code, killed] = await ended
        if (code !== 0)
          throw new CommandError(
            'ERR_COMMAND_FAILED',
            `${this.#command} ${killed === null ? `ended with exit code ${code}` : `was ended by ${killed}`}`,
          )
      } finally {
        signal.removeEventListener('abort', kill)
        if (child.exitCode === null && child.signalCode === null) child.kill()
      }
    } finally {
      this.#done()
    }
  }

  #start(request: Uint8Array, { connection, redelivered }: CallContext<Connection>): Child {
    const { pid, uid } = connection.peer
    const child = spawn(this.#command, this.#args, {
      stdio: ['pipe', 'pipe', 'inherit'],
      env: {
        ...process.env,
        RINGBELL_SERVICE: this.#service,
        RINGBELL_PEER_PID: String(pid),
        RINGBELL_PEER_UID: String(uid),
        RINGBELL_REDELIVERED: redelivered ? '1' : '0',
      },
    })
    // A command may end without reading its request.
    child.stdin.on('error', () => {})
    child.stdin.end(request)
    return child
  }

  async #turn(): Promise<void> {
    if (this.#free-- <= 0) await new Promise<void>((turn) => this.#waiting.push(turn))
  }

  #done(): void {
    this.#free++
    this.#waiting.shift()?.()
  }
}
