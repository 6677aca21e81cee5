/**
 * The interfaces between readers and what they read from. A reader waits once (`receive`), or holds its gate for longer (an
 * iteration, a listener). Sources and gates of topics and of channels look the same to it.
 */

export interface MessageSource<V> {
  /**
   * Whether there is something to take; drains the ring if need be. Gives back what was lent before: who asks for the next
   * is done with the last.
   */
  refill(): boolean
  /** The next one. Only after `refill` said yes. */
  take(): V
  /** The reader leaves: what is lent is given back; what was copied and not taken stays for the next reader. */
  leave(): void
}

/** Somebody who waits for messages. */
export interface Reader {
  /** What to look at. */
  readonly messages: MessageSource<unknown>
  /** Something is there to take. */
  ready(): void
  failed(error: unknown): void
  /** The subscriber was closed. */
  closed(): void
}

/** Somebody who holds the subscriber for longer than one receive. */
export interface Holder {
  closed(): void
}

/** What a reader needs of that which it reads from. */
export interface Gate {
  /** What users know it as. */
  readonly what: string
  hold(holder: Holder): void
  letGo(holder: Holder): void
  assertFree(): void
  /** A short look, if the endpoint is lively. */
  glance(): boolean
  wait(waiting: Reader): void
  /** The same, looking on a fresh macrotask first: others are to run before what may be there already. */
  waitFresh(waiting: Reader): void
  callOff(waiting: Reader): void
}
