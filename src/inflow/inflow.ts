/**
 * What readers read from: something that can be filled and taken from. One class per lifetime; the hot loops know only this.
 * Errors of the binding pass through untranslated: readers translate what they hand to users.
 */
export interface Inflow<V> {
  /** Whether there is something to take; drains the ring if need be. Gives back what was lent before. */
  refill(): boolean
  /** The next one. Only after `refill` said yes. */
  take(): V
  /** The reader leaves: what is lent is given back; what was copied and not taken stays for the next reader. */
  leave(): void
}

/** What an inflow calls when notices are due: publishers that came or went, messages that were missed. */
export interface NoticeBoard {
  /** Something was kept back until the last drained message is taken. */
  readonly keeping: boolean
  take(): void
  /** As soon as whoever took the last drained message has had it. */
  takeSoon(): void
}
