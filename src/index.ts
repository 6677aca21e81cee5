/**
 * The public API of the library, as a table of contents. What is not exported here is not API. A class is exported as a
 * type if only a bus makes its objects.
 *
 * @module ringbell
 */
export { AbortError, errorCodes, RingbellError, type RingbellErrorCode, type RingbellErrorDetails } from './errors.js'
export type { Envelope, HeadersOption, MessageHeaders } from './headers.js'
export type { SignalOptions } from './wait/abort.js'
export type { AsyncIteration } from './wait/async-iteration.js'
export type { AckMode } from './topic/reading/acks.js'
export type { PortTarget, SocketTarget, Target } from './announce/address.js'
export { canConnect, type ConnectTestOptions } from './announce/connect-test.js'
export {
  listenUnix,
  type ListenUnixOptions,
  peerOf,
  type SocketAccess,
  type SocketPeer,
} from './announce/listen-unix.js'
export type { Endpoint, EndpointRoute } from './announce/offers.js'
export type { EndpointAddress, Health, HealthOptions } from './announce/options.js'
export type { ResolveOptions } from './announce/resolve-options.js'
export type { Announced } from './bus/announced.js'
export type {
  CallMessage,
  ClaimLostMessage,
  ClaimMessage,
  DiagnosticsChannel,
  DiagnosticsMessages,
  FullMessage,
} from './bus/diagnostics-messages.js'
export type { Batch, Lifetime } from './topic/reading/batch.js'
export type { BatchWriter } from './topic/writing/batch-writer.js'
export { Bus } from './bus/bus.js'
export type { Claim, ClaimOptions } from './bus/claim.js'
export type { ClaimHolder, Claims, ClaimState } from './bus/claims.js'
export type { Client, ClientEvents, ServerStatsOptions } from './channel/client.js'
export type { Connection } from './channel/connection.js'
export type { ControlRequest, MemberStatus } from './group/control.js'
export type { Member, MemberState } from './group/member.js'
export type { JoinOptions, ListenOptions, StepDownOptions } from './group/options.js'
export type { SharedServer } from './group/shared-server.js'
export type { Term } from './group/term.js'
export type { MemberEvents, Membership, Role, RoleInfo } from './bus/membership.js'
export type { QueueReport, ServiceCounters } from './channel/counters.js'
export type { DeadLetter, DeadLetterSummary } from './channel/dead-letters.js'
export type { ReceivedFds } from './channel/fds.js'
export type { CallContext } from './channel/handling.js'
export type { EndReason, PeerInfo } from './channel/link.js'
export type {
  CallOptions,
  ChannelOptions,
  ConnectOptions,
  MessageOptions,
  MessageWriteOptions,
  PushOptions,
  QueueOptions,
  RingOptions,
  RunOptions,
  ServeOptions,
  StreamOptions,
  WorkerOptions,
} from './channel/options.js'
export type { Queue, QueueEvents } from './channel/queue.js'
export { RemoteError } from './channel/remote-error.js'
export type { Route } from './channel/routing.js'
export type { InputSchema, Schema, SchemaIssue, SchemaResult, StandardSchema } from './codec/schema.js'
export type { Handler, Server, ServerEvents } from './channel/server.js'
export type { CloseOptions } from './channel/options.js'
export type { ClientStats, CoreChannelStats, QueueStats, ServerStats, WorkerStats } from './channel/stats.js'
export type { WorkHandler, Worker, WorkerEvents } from './channel/worker.js'
export {
  bytes,
  json,
  structured,
  type Codec,
  type CodecName,
  type CodecOption,
  type ValueCodec,
} from './codec/index.js'
export type { Listening } from './topic/reading/listening.js'
export type { Loan } from './topic/writing/loan.js'
export type { Message, MessageJson } from './topic/reading/message.js'
export type { WritableOptions } from './topic/node-streams.js'
export type { AttachedSubscriber, PublisherEvents } from './topic/audience.js'
export type { SubscriberEvents } from './topic/notices.js'
export type { PublisherOptions, SubscriberOptions, TopicAccess } from './topic/options.js'
export type { Access, AnnounceOptions, BusOptions, Description } from './bus/options.js'
export type { BackoffOptions, ReconnectOptions } from './wait/backoff.js'
export type {
  AttachedSubscribersOptions,
  Publisher,
  ReadyOptions,
  SendOptions,
  WriteOptions,
} from './topic/publisher.js'
export type { Check, CheckStatus, Doctor, GcReport } from './bus/reports.js'
export type { AccessInfo, Fallback, Origin, Overflow, Rung, Service, TopicInfo } from './bus/service.js'
export type { Services, WaitForOptions, WatchOptions } from './bus/services.js'
export type { ServiceEvent } from './bus/services-view.js'
export type { AttachedPublisher, DurablePosition } from './topic/sources.js'
export type { AckStats, PublisherStats, SlotStats, SourceStats, SubscriberStats, TopicCounters } from './topic/stats.js'
export type { AttachedOptions, BatchesOptions, Subscriber } from './topic/subscriber.js'
export type { StateChange } from './state/changes.js'
export type { KeyedStateReader, WatchKeysOptions } from './state/keyed-reader.js'
export type { KeyedState } from './state/keyed-state.js'
export type { AttachedWriter, StateReaderEvents } from './state/notices.js'
export type { StateOptions, StateReaderOptions } from './state/options.js'
export type { StateReader } from './state/reader.js'
export type { State } from './state/state.js'
export type { AtomicFlag } from './sync/flag.js'
export type { KeysLock, Lock, Permits } from './sync/held.js'
export type { LockHandle } from './sync/lock-handle.js'
export type { LockCallback, LockInfo, Locks, LocksSnapshot } from './sync/locks.js'
export type {
  LockMode,
  LockOptions,
  LockRequestOptions,
  SemaphoreOptions,
  ShardedMutexOptions,
  TakeOptions,
  TryLockOptions,
  UseOptions,
} from './sync/options.js'
export type { Semaphore } from './sync/semaphore.js'
export type { Key, ShardedMutex } from './sync/sharded-mutex.js'
export type { WaitMode, WaitOption, WaitOptions } from './wait/policy.js'
