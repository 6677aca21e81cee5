/**
 * The interfaces between readers and what they read from. A reader waits once (`receive`), or holds its gate for longer (an
 * iteration, a listener). Sources and gates of topics and of channels look the same to it.
 */

import type { AbortError } from '../errors.js'

/** A source of messages, as the hot loops see it. */
export interface MessageSource<V> {
  /**
   * Returns whether there is something to take, or comes within `iterations` pause instructions (0 if not given). It drains the ring if
   * need be, and gives back what was lent before.
   */
  refill(iterations?: number): boolean
  /** Takes the next item. Call it only after `refill` returned `true`. */
  take(): V
  /** Call when the reader leaves. What is lent is given back. What was copied and not taken stays for the next reader. */
  leave(): void
}

/** Something that waits for messages. */
export interface Reader {
  /** The source that it takes them from. */
  readonly messages: MessageSource<unknown>
  /** There is something to take. */
  ready(): void
  failed(error: unknown): void
  /** Nothing more will come. */
  closed(): void
}

/** A reader that holds the gate for longer than one receive. */
export interface Holder {
  closed(): void
}

/** The place where readers wait: that of a subscriber, or the inbox of a connection or stream. */
export interface Gate {
  /** Its name in error texts. */
  readonly what: string
  /** Adds to the error of an aborted wait why nothing came, if that is known. A property, so that no wait needs a closure for it. */
  readonly explain?: ((error: AbortError) => AbortError) | undefined
  hold(holder: Holder): void
  letGo(holder: Holder): void
  assertFree(): void
  /** The pause instructions for which a refill may look: 0 unless the endpoint is lively. */
  readonly glance: number
  wait(reader: Reader): void
  /** Like `wait`, but in a fresh macrotask: other code runs first, even if there is something already. */
  waitFresh(reader: Reader): void
  callOff(reader: Reader): void
}
