/**
 * File descriptors as messages: what Node itself cannot pass between unrelated processes. They travel over the connection's
 * socket, apart from its ring, so they keep their own order and none with other messages. Sent ones stay the sender's to
 * close; received ones belong to the receiver and are close-on-exec.
 */
import { onAbort, throwIfAborted } from '../wait/abort.js'
import { busy, fromNative, translated } from '../errors.js'
import type { Endpoint } from './endpoint.js'
import type { Link } from './link.js'

/** Descriptors, and the bytes that came with them. */
export interface ReceivedFds {
  readonly data: Uint8Array
  /** The caller's own: to be closed, or given to something that closes them. */
  readonly fds: number[]
}

const RETRY_MS = 2

interface Waiting {
  /** Tries; `true` when the wait is over. */
  attempt(): boolean
  fail(error: unknown): void
}

/** The traffic of descriptors of one connection. */
export class Descriptors {
  readonly #endpoint: Endpoint
  readonly #link: Link
  #senders: Waiting[] = []
  #receiver: Waiting | undefined
  #retrying: NodeJS.Timeout | undefined

  constructor(endpoint: Endpoint, link: Link) {
    this.#endpoint = endpoint
    this.#link = link
  }

  async send(data: Uint8Array, fds: readonly number[], signal: AbortSignal | undefined): Promise<void> {
    throwIfAborted(signal)
    this.#assertOpen()
    const { native } = this.#endpoint
    const { number } = this.#link
    const list = [...fds]
    const attempt = (): boolean => translated(() => native.sendFds(number, data, list))
    if (this.#senders.length === 0 && attempt()) return
    await this.#wait(attempt, signal, this.#beginSender, this.#endSender)
  }

  async receive(signal: AbortSignal | undefined): Promise<ReceivedFds> {
    throwIfAborted(signal)
    if (this.#receiver !== undefined) throw busy('already has somebody waiting for descriptors', 'connection')
    const { native } = this.#endpoint
    const { number } = this.#link
    let received: ReceivedFds | null = null
    const attempt = (): boolean => {
      if (!this.#endpoint.closed) received = translated(() => native.receiveFds(number))
      return received !== null
    }
    if (attempt()) return received as unknown as ReceivedFds
    this.#assertOpen()
    await this.#wait(
      attempt,
      signal,
      (waiting) => (this.#receiver = waiting),
      () => (this.#receiver = undefined),
    )
    return received as unknown as ReceivedFds
  }

  /** Descriptors are there. */
  arrived(): void {
    this.#try(this.#receiver)
  }

  /** In order, as many as there is room for. */
  #retry(): void {
    while (this.#senders.length > 0 && this.#try(this.#senders[0])) {
      // The next one.
    }
  }

  end(error: unknown): void {
    for (const waiting of [...this.#senders, this.#receiver]) waiting?.fail(error)
  }

  /** Nothing tells when a socket has room again: it is tried now and then. */
  readonly #beginSender = (waiting: Waiting): void => {
    this.#senders.push(waiting)
    this.#retrying ??= setInterval(() => this.#retry(), RETRY_MS).unref()
  }

  readonly #endSender = (waiting: Waiting): void => {
    this.#senders = this.#senders.filter((one) => one !== waiting)
    if (this.#senders.length > 0) return
    clearInterval(this.#retrying)
    this.#retrying = undefined
  }

  #assertOpen(): void {
    if (this.#link.gone !== undefined) throw this.#link.gone
  }

  /** `true` when that wait is over. */
  #try(waiting: Waiting | undefined): boolean {
    if (waiting === undefined) return false
    try {
      return waiting.attempt()
    } catch (error) {
      waiting.fail(fromNative(error))
      return true
    }
  }

  #wait(
    attempt: () => boolean,
    signal: AbortSignal | undefined,
    begin: (waiting: Waiting) => void,
    end: (waiting: Waiting) => void,
  ): Promise<void> {
    return new Promise((resolve, reject) => {
      const settle = (settled: () => void): void => {
        forget()
        end(waiting)
        this.#endpoint.unwant()
        settled()
      }
      const waiting: Waiting = {
        attempt: () => {
          const done = attempt()
          if (done) settle(resolve)
          return done
        },
        fail: (error) => settle(() => reject(error)),
      }
      begin(waiting)
      this.#endpoint.want()
      const forget = onAbort(signal, (error) => waiting.fail(error))
    })
  }
}
