/**
 * The interfaces between readers and what they read from. A reader waits once (`receive`), or holds its gate for longer (an
 * iteration, a listener). Sources and gates of topics and of channels look the same to it.
 */

/** Something that can be filled and taken from. The hot loops know only this. */
export interface MessageSource<V> {
  /** Whether there is something to take. Drains the ring if need be, and gives back what was lent before. */
  refill(): boolean
  /** The next one. Only after `refill` said yes. */
  take(): V
  /** The reader leaves: what is lent is given back; what was copied and not taken stays for the next reader. */
  leave(): void
}

/** One that waits for messages. */
export interface Reader {
  /** Where it takes them from. */
  readonly messages: MessageSource<unknown>
  /** Something is there to take. */
  ready(): void
  failed(error: unknown): void
  /** Nothing will come any more. */
  closed(): void
}

/** One that holds the gate for longer than one receive. */
export interface Holder {
  closed(): void
}

/** Where readers wait: of a subscriber, or an inbox of a channel. */
export interface Gate {
  /** What its users call it. */
  readonly what: string
  hold(holder: Holder): void
  letGo(holder: Holder): void
  assertFree(): void
  /** Spins for a moment, if the endpoint is lively; `true` when something came. */
  glance(): boolean
  wait(reader: Reader): void
  /** The same in a fresh macrotask: other code runs first, also if something is there already. */
  waitFresh(reader: Reader): void
  callOff(reader: Reader): void
}
