/**
 * The public face of the library: a table of contents. What is not here is not API. What only a bus can make is a type.
 *
 * @module ringbell
 */
export { AbortError, errorCodes, RingbellError, type RingbellErrorCode, type RingbellErrorDetails } from './errors.js'
export type { SignalOptions } from './abort.js'
export type { AckMode } from './acks.js'
export type { Announced } from './announced.js'
export type { Batch, Lifetime } from './batch.js'
export type { BatchWriter } from './batch-writer.js'
export { Bus } from './bus.js'
export type { Client, ClientEvents, ServerStatsOptions } from './channel/client.js'
export type { Connection } from './channel/connection.js'
export type { ReceivedFds } from './channel/fds.js'
export type { CallContext } from './channel/handling.js'
export type { EndReason, PeerInfo } from './channel/link.js'
export type {
  CallOptions,
  ChannelOptions,
  ConnectOptions,
  QueueOptions,
  RingOptions,
  ServeOptions,
  WorkerOptions,
} from './channel/options.js'
export type { Queue, QueueEvents } from './channel/queue.js'
export { RemoteError } from './channel/remote-error.js'
export type { Route } from './channel/routing.js'
export type { Schema, SchemaIssue, SchemaResult, StandardSchema } from './channel/schema.js'
export type { CloseOptions, Handler, Server, ServerEvents } from './channel/server.js'
export type { ClientStats, CoreChannelStats, QueueStats, ServerStats, WorkerStats } from './channel/stats.js'
export type { WorkHandler, Worker, WorkerEvents } from './channel/worker.js'
export { bytes, json, structured, type Codec, type CodecName, type CodecOption } from './codec/index.js'
export type { Listening } from './listening.js'
export type { Loan } from './loan.js'
export type { Message } from './message.js'
export type { WritableOptions } from './node-streams.js'
export type { SubscriberEvents } from './notices.js'
export type {
  Access,
  AnnounceOptions,
  BusOptions,
  Description,
  PublisherOptions,
  ReconnectOptions,
  SubscriberOptions,
  TopicAccess,
} from './options.js'
export type { Publisher, ReadyOptions } from './publisher.js'
export type { Check, CheckStatus, Doctor, GcReport } from './reports.js'
export type { AccessInfo, Overflow, Rung, Service, TopicInfo } from './service.js'
export type { Services, WaitForOptions, WatchOptions } from './services.js'
export type { ServiceEvent } from './services-view.js'
export type { AttachedPublisher, DurablePosition, Fallback } from './sources.js'
export type { AckStats, PublisherStats, SlotStats, SourceStats, SubscriberStats, TopicCounters } from './stats.js'
export type { AttachedOptions, BatchesOptions, Subscriber } from './subscriber.js'
export type { WaitMode, WaitOption, WaitOptions } from './waiting.js'
