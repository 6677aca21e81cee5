/**
 * What readers read from: something that can be filled and taken from. One class per lifetime; the hot loops know only this.
 * Errors of the binding pass through untranslated: readers translate what they hand to users. No code of users runs in
 * here: a listener that aborts, closes or reads must not find a drain half done.
 */
import type { Acks } from './acks.js'
import type { Codec } from '../../codec/index.js'
import type { NativeSubscriber, NativeSubscriberHot } from '../../native.js'
import type { Sources } from '../sources.js'
import type { Lending } from './loans.js'

/** What an inflow calls when notices are due: publishers that came or went, messages that were missed. */
export interface NoticeBoard {
  /** Something was kept back until the last drained message is taken. */
  readonly keeping: boolean
  /** Events are on their way that belong before what is delivered next. */
  readonly untold: boolean
  take(): void
  /** As soon as whoever took the last drained message has had it. */
  takeSoon(): void
}

/** What the inflows of one subscriber have in common. The binding's one table, too: see lending.ts. */
export interface Supply {
  readonly native: NativeSubscriber
  readonly hot: NativeSubscriberHot
  readonly sources: Sources
  readonly board: NoticeBoard
  readonly codec: Codec<unknown>
  readonly lending: Lending
  /** Not with `ack: 'immediate'`. */
  readonly acks?: Acks | undefined
}
