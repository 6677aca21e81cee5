/** The messages of the diagnostics channels (src/diagnostics.ts), by the names of the channels. Types only. */
import type { Member } from '../group/member.js'
import type { Client, ClientEvents } from '../channel/client.js'
import type { Queue, QueueEvents } from '../channel/queue.js'
import type { Server, ServerEvents } from '../channel/server.js'
import type { Worker, WorkerEvents } from '../channel/worker.js'
import type { KeyedStateReader } from '../state/keyed-reader.js'
import type { KeyedState } from '../state/keyed-state.js'
import type { StateReaderEvents } from '../state/notices.js'
import type { StateReader } from '../state/reader.js'
import type { State } from '../state/state.js'
import type { PublisherEvents } from '../topic/audience.js'
import type { SubscriberEvents } from '../topic/notices.js'
import type { Publisher } from '../topic/publisher.js'
import type { Subscriber } from '../topic/subscriber.js'
import type { RingbellError } from '../errors.js'
import type { Bus } from './bus.js'
import type { Claim } from './claim.js'
import type { MemberEvents } from './membership.js'

type Life<K extends string, O> = Readonly<Record<`ringbell:${K}:${'opened' | 'closed'}`, Readonly<Record<K, O>>>>

/** `details` is the list of arguments of the event of the same name. */
type Events<K extends string, O, E> = {
  readonly [N in keyof E & string as `ringbell:${K}:${N}`]: Readonly<Record<K, O>> & { readonly details: E[N] }
}

/** A call of `publisher.ready()` or `publisher.write()` begins to wait for room. */
export interface FullMessage {
  /** The publisher that waits. */
  readonly publisher: Publisher<unknown>
  /** How many bytes of payload it waits for. */
  readonly bytes: number
}

/** One call of `client.call()`. Both channels get the same object, so that a subscriber can keep things under it. */
export interface CallMessage {
  /** The client that calls. */
  readonly client: Client<unknown, unknown, unknown>
  /** What it was called with. */
  readonly request: unknown
  /** The reply, as soon as there is one. */
  reply?: unknown
  /** Why there is no reply, if the call failed. */
  error?: unknown
}

/** A claim that is held, or was released. */
export interface ClaimMessage {
  /** The claim. */
  readonly claim: Claim
}

/** A claim that was lost. */
export interface ClaimLostMessage extends ClaimMessage {
  /** Why: what `claim.lost` resolves with. */
  readonly reason: RingbellError
}

/**
 * What is published on each channel of `node:diagnostics_channel`, by its name:
 * `subscribe(name, (message) => { const { client } = message as DiagnosticsMessages['ringbell:client:opened'] })`.
 */
export type DiagnosticsMessages = Life<'bus', Bus> &
  Life<'publisher', Publisher<unknown>> &
  Life<'subscriber', Subscriber<unknown>> &
  Life<'state', State<unknown> | KeyedState<unknown>> &
  Life<'stateReader', StateReader<unknown> | KeyedStateReader<unknown>> &
  Life<'server', Server<unknown>> &
  Life<'client', Client<unknown, unknown, unknown>> &
  Life<'queue', Queue<unknown>> &
  Life<'worker', Worker<unknown>> &
  Life<'member', Member> &
  Events<'publisher', Publisher<unknown>, PublisherEvents> &
  Events<'subscriber', Subscriber<unknown>, SubscriberEvents> &
  Events<'stateReader', StateReader<unknown> | KeyedStateReader<unknown>, StateReaderEvents> &
  Events<'server', Server<unknown>, ServerEvents<unknown>> &
  Events<'client', Client<unknown, unknown, unknown>, ClientEvents<unknown>> &
  Events<'queue', Queue<unknown>, QueueEvents<unknown>> &
  Events<'worker', Worker<unknown>, WorkerEvents<unknown>> &
  Events<'member', Member, MemberEvents> & {
    /** A call begins to wait for room. */
    readonly 'ringbell:publisher:full': FullMessage
    /** A call begins. */
    readonly 'ringbell:client:calling': CallMessage
    /** It has its reply, or has failed. */
    readonly 'ringbell:client:called': CallMessage
    /** This process holds a name. */
    readonly 'ringbell:claim:held': ClaimMessage
    /** It gave the name back. */
    readonly 'ringbell:claim:released': ClaimMessage
    /** Another process may hold the name. */
    readonly 'ringbell:claim:lost': ClaimLostMessage
  }

/** The name of a diagnostics channel. */
export type DiagnosticsChannel = keyof DiagnosticsMessages
