/**
 * `ringbell/nats`: topics and services of one bus on the buses of other machines, through NATS. As a table of contents. What is not
 * exported here is not API.
 *
 * @module nats
 */
export { Bridge, type BridgeEvents, type BridgePeer, type BridgeState, type BridgeStats } from './bridge.js'
export type { BridgeCounters } from './counters.js'
export type { BridgeOptions, BridgeTls } from './options.js'
