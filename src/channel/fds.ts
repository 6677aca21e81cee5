/**
 * File descriptors as messages. (Node itself cannot pass them between unrelated processes.) They travel over the socket
 * of the connection and not through its ring. So they keep their order among themselves, but not with other messages.
 * The sender keeps its own descriptors and closes them. Received ones belong to the receiver and are close-on-exec.
 */
import { busy, fromNative, translated } from '../errors.js'
import { throwIfAborted } from '../wait/abort.js'
import { Fifo } from '../wait/fifo.js'
import { waitFor } from '../wait/waiting.js'
import type { Endpoint } from './endpoint.js'
import type { Link } from './link.js'

/** Descriptors, and the bytes that came with them. */
export interface ReceivedFds {
  /** The sender's data about them. */
  readonly data: Uint8Array
  /** They belong to the caller, which must close them or give them to something that does. */
  readonly fds: number[]
}

const RETRY_MS = 2

/** A call that waits until it succeeds. */
interface Attempt {
  /** Tries; `true` when the wait is over. */
  go(): boolean
  reject(error: unknown): void
}

/** Sends and receives the descriptors of one connection. */
export class Descriptors {
  readonly #endpoint: Endpoint
  readonly #link: Link
  readonly #senders = new Fifo<Attempt>()
  #receiver: Attempt | undefined
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
    if (this.#senders.size === 0 && attempt()) return
    await this.#wait(attempt, signal, this.#beginSender, this.#endSender)
  }

  async receive(signal: AbortSignal | undefined): Promise<ReceivedFds> {
    throwIfAborted(signal)
    if (this.#receiver !== undefined) throw busy('already has a call that waits for descriptors', 'connection')
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

  /** Call when descriptors have arrived. */
  arrived(): void {
    this.#try(this.#receiver)
  }

  /** Sends waiting descriptors in order, as many as there is room for. */
  #retry(): void {
    while (this.#try(this.#senders.peek())) {
      // The next one.
    }
  }

  end(error: unknown): void {
    for (const waiting of [...this.#senders, this.#receiver]) waiting?.reject(error)
  }

  /** There is no event for a socket that has room again, so sending is tried from time to time. */
  readonly #beginSender = (waiting: Attempt): void => {
    this.#senders.push(waiting)
    this.#retrying ??= setInterval(() => this.#retry(), RETRY_MS).unref()
  }

  readonly #endSender = (waiting: Attempt): void => {
    this.#senders.take((one) => one === waiting)
    if (this.#senders.size > 0) return
    clearInterval(this.#retrying)
    this.#retrying = undefined
  }

  #assertOpen(): void {
    if (this.#link.gone !== undefined) throw this.#link.gone
  }

  /** Tries once. `true` when the wait is over. */
  #try(waiting: Attempt | undefined): boolean {
    if (waiting === undefined) return false
    try {
      return waiting.go()
    } catch (error) {
      waiting.reject(fromNative(error))
      return true
    }
  }

  #wait(
    attempt: () => boolean,
    signal: AbortSignal | undefined,
    begin: (waiting: Attempt) => void,
    end: (waiting: Attempt) => void,
  ): Promise<void> {
    return waitFor(
      (promise) => {
        const waiting: Attempt = {
          go: () => {
            const done = attempt()
            if (done) promise.resolve()
            return done
          },
          reject: (error) => promise.reject(error),
        }
        begin(waiting)
        this.#endpoint.want()
        return () => {
          end(waiting)
          this.#endpoint.unwant()
        }
      },
      { signal },
    )
  }
}
