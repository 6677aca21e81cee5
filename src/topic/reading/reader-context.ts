/**
 * What the message sources of one subscriber share. There is one source per lifetime. Errors of the binding pass through untranslated: readers
 * translate what they hand to users. No user code runs here: a listener that aborts, closes or reads must not find a drain half done.
 */
import type { PayloadCodec } from '../../codec/payload-codec.js'
import type { NativeSubscriber, NativeSubscriberHot } from '../../native.js'
import type { Sources } from '../sources.js'
import type { Acks } from './acks.js'
import type { Loans } from './loans.js'

/** The notices of a subscriber, as its sources see them: publishers that came or went, messages that were missed. */
export interface PendingNotices {
  /** Whether a notice is kept back until the last drained message is taken. */
  readonly keeping: boolean
  /** Whether there are events that must be emitted before the next message. */
  readonly untold: boolean
  take(): void
  /** Takes them as soon as the last drained message has been delivered. */
  takeSoon(): void
}

/** What the sources of one subscriber share, also the one table of the binding (see loans.ts). */
export interface ReaderContext {
  readonly native: NativeSubscriber
  readonly hot: NativeSubscriberHot
  readonly sources: Sources
  readonly notices: PendingNotices
  readonly payloads: PayloadCodec
  readonly loans: Loans
  /** Absent with `ack: 'immediate'`. */
  readonly acks?: Acks | undefined
}
