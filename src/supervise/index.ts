/**
 * `ringbell/supervise`: processes, and groups of them that stay up. As a table of contents. What is not exported here is
 * not API.
 *
 * @module supervise
 */
export type { ExitStatus } from './exit.js'
export type {
  GroupInstance,
  HealthCheck,
  HeartbeatOptions,
  InstanceState,
  OutputListener,
  ServiceGroupOptions,
} from './group-options.js'
export { openProcess, type ProcessHandle } from './process.js'
export { type RegisterOptions, Registry } from './registry.js'
export { type InheritedSocket, listenFds } from './listen-fds.js'
export type { LogLine } from './log-book.js'
export {
  type AskOptions,
  type GroupsOptions,
  instancesOn,
  type LogsOptions,
  managersOn,
  type RemoteManager,
  type RemoteStopOptions,
} from './remote.js'
export { notify, watchdogInterval } from './notify.js'
export { ServiceGroup, type ServiceGroupEvents, type StopOptions } from './service-group.js'
export { type ReadyProcess, spawnAndWait, type SpawnAndWaitOptions } from './spawn-and-wait.js'
export { spawn, type SpawnOptions } from './spawn.js'
export type { LineListener, OutputTarget, StdioOption, StdioOptions } from './stdio.js'
export type { Tied } from './tie.js'
