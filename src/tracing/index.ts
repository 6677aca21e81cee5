/**
 * The trace context of OpenTelemetry in the headers of messages (`ringbell/tracing`). Importing it is enough: from then on
 * everything that this process sends carries the active context, and the handlers of servers and workers run in the context of
 * their callers. The propagator of the process decides what is written; W3C's writes `traceparent`. It makes no spans.
 *
 * @module tracing
 */
import { createRequire } from 'node:module'
import type * as Api from '@opentelemetry/api'
import { missingPackage } from '../missing-package.js'
import { type MessageHeaders, MOST_HEADER_BYTES, MOST_HEADERS } from '../headers.js'
import { setTracer, type Tracer } from '../tracer.js'

/** Something with headers: a message of a topic, the context of a handler, an envelope. */
export interface WithHeaders {
  readonly headers: MessageHeaders
}

const { context, propagation } = load()

/** Bytes that each header takes besides its name and value. */
const LENGTHS = 4
/** Text that a header can have. Another value of a propagator is left out, because tracing must not make a message fail. */
const SENDABLE = /^[\t\x20-\x7e]*$/

const SETTER: Api.TextMapSetter<Record<string, string>> = {
  set: (carrier, name, value) => {
    if (SENDABLE.test(value)) carrier[name.toLowerCase()] = value
  },
}

const GETTER: Api.TextMapGetter<MessageHeaders> = {
  keys: (carrier) => Object.keys(carrier),
  get: (carrier, name) => carrier[name.toLowerCase()],
}

const openTelemetry: Tracer = { inject, run: runIn }

enableTracing()

/** Lets the context cross messages and calls of this process; the import does it, too. */
export function enableTracing(): void {
  setTracer(openTelemetry)
}

/** The opposite: messages carry only the headers that they are given. */
export function disableTracing(): void {
  setTracer(undefined)
}

/** The context that the headers of a message carry, on top of the active one: to start a span there, for example. */
export function contextOf({ headers }: WithHeaders): Api.Context {
  return propagation.extract(context.active(), headers, GETTER)
}

/**
 * Calls `body` in the context that a message of a topic or a connection carries. Messages are taken out of a loop, so no context is theirs
 * by itself. Handlers of calls and jobs run in theirs already.
 */
export function withContextOf<R>(message: WithHeaders, body: () => R): R {
  return runIn(message.headers, body)
}

function runIn<R>(headers: MessageHeaders, body: () => R): R {
  return context.with(contextOf({ headers }), body)
}

/** Headers of the user come first, also if they have the name of one of the propagator. What finds no room is left out. */
function inject(headers: MessageHeaders | undefined): MessageHeaders | undefined {
  const carrier: Record<string, string> = {}
  propagation.inject(context.active(), carrier, SETTER)
  const written = Object.entries(carrier)
  if (written.length === 0) return headers
  const all: Record<string, string | undefined> = { ...headers }
  let left = MOST_HEADER_BYTES
  let places = MOST_HEADERS - Object.keys(all).length
  for (const [name, value] of Object.entries(all)) left -= sizeOf(name, String(value))
  for (const [name, value] of written) {
    const size = sizeOf(name, value)
    if (all[name] !== undefined || size > left || places <= 0) continue
    all[name] = value
    left -= size
    places--
  }
  return all
}

function sizeOf(name: string, value: string): number {
  return LENGTHS + name.length + Buffer.byteLength(value)
}

/** @throws {RingbellError} `ERR_RINGBELL_MISSING_PACKAGE`. */
function load(): typeof Api {
  try {
    return createRequire(import.meta.url)('@opentelemetry/api') as typeof Api
  } catch (cause) {
    throw missingPackage('ringbell/tracing', '@opentelemetry/api', cause)
  }
}
