/** What `ringbell bench` asks of its two child processes, and what they answer. Plain data: it crosses as JSON. */
import type { Lifetime, WaitMode } from '../../index.js'

export interface ThroughputTask {
  kind: 'throughput'
  /** How the sender sends: a call each, or through the batch writer. */
  sending: 'send' | 'batch'
  lifetime: Lifetime
}

export interface RoundTripTask {
  kind: 'round trip'
  wait: WaitMode
}

export type Task = ThroughputTask | RoundTripTask

/** The part of one child. */
export interface Part {
  task: Task
  role: 'first' | 'second'
  /** The bus. */
  path: string
  /** Bytes a message. */
  size: number
  /** Milliseconds, after the same in a short warm-up. */
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
