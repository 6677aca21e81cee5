/** The tasks of the two child processes of `ringbell bench`, and their results. Plain data: it crosses as JSON. */
import type { Lifetime, WaitMode } from '../../index.js'

export interface ThroughputTask {
  kind: 'throughput'
  /** How the sender sends: by one call for each message, or through the batch writer. */
  sending: 'send' | 'batch'
  lifetime: Lifetime
}

export interface RoundTripTask {
  kind: 'round trip'
  wait: WaitMode
}

export type Task = ThroughputTask | RoundTripTask

/** The task of one child. */
export interface Part {
  task: Task
  role: 'first' | 'second'
  /** The directory of the bus. */
  path: string
  /** Bytes of each message. */
  size: number
  /** Milliseconds of the measurement, after a short warm-up. */
  duration: number
}

export interface Throughput {
  messages: number
  bytes: number
  seconds: number
}

/** Nanoseconds. */
export interface RoundTrips {
  rounds: number
  p50: number
  p99: number
}

/** The topics; the bus is a private one. */
export const TOPIC = { stream: 'bench.stream', there: 'bench.there', back: 'bench.back' } as const

export const CAPACITY = 1 << 20

/** Messages below this cannot carry what the receiver checks. */
export const LEAST_SIZE = 8
