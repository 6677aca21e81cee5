/**
 * The trace context of OpenTelemetry in the headers of messages (`ringbell/tracing`). Importing it is enough: from then on
 * messages of topics and connections, calls and jobs carry the active context, and the handlers of servers and workers run in the
 * context of their callers. Replies, errors, batches and loans carry none. The propagator of the process decides what is written;
 * W3C's writes `traceparent`. It makes no spans. What the propagator does wrong is told to the `diag` of OpenTelemetry, and never
 * makes a message or a call fail.
 *
 * @module tracing
 */
import { createRequire } from 'node:module'
import type * as Api from '@opentelemetry/api'
import { reason } from '../errors.js'
import { missingPackage } from '../missing-package.js'
import { type MessageHeaders, MOST_HEADER_BYTES, MOST_HEADERS, NAME, NO_HEADERS } from '../headers.js'
import { setTracer, type Tracer } from '../tracer.js'

/** Something with headers: a message of a topic, the context of a handler, an envelope. */
export interface WithHeaders {
  readonly headers: MessageHeaders
}

const { context, diag, propagation } = load()

/** Bytes that each header takes besides its name and value. */
const LENGTHS = 4
/** Text that a header can have. Another value of a propagator is left out, and so is another name. */
const SENDABLE = /^[\t\x20-\x7e]*$/

const SETTER: Api.TextMapSetter<Record<string, string>> = {
  set: (carrier, name, value) => {
    const lower = name.toLowerCase()
    if (NAME.test(lower) && SENDABLE.test(value)) carrier[lower] = value
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
  const active = context.active()
  try {
    return propagation.extract(active, headers, GETTER)
  } catch (error) {
    // A peer has written the headers, so it must not be able to make us fail.
    diag.error(`ringbell/tracing: the propagator cannot read the headers of a message: ${reason(error)}`)
    return active
  }
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
function inject(headers: MessageHeaders | undefined, room: number): MessageHeaders | undefined {
  const carrier: Record<string, string> = Object.create(null) as Record<string, string>
  try {
    propagation.inject(context.active(), carrier, SETTER)
  } catch (error) {
    diag.error(`ringbell/tracing: the propagator cannot write the context: ${reason(error)}`)
    return headers
  }
  // It is refused where it is written.
  if (headers === null || (headers !== undefined && (typeof headers !== 'object' || Array.isArray(headers))))
    return headers
  const all = new Map(Object.entries(headers ?? NO_HEADERS).filter(([, value]) => value !== undefined))
  let left = Math.min(room, MOST_HEADER_BYTES)
  for (const [name, value] of all) left -= sizeOf(name, value)
  let added = false
  for (const [name, value] of Object.entries(carrier)) {
    const size = sizeOf(name, value)
    if (all.has(name) || size > left || all.size === MOST_HEADERS) continue
    all.set(name, value)
    left -= size
    added = true
  }
  return added ? Object.fromEntries(all) : headers
}

/** What is no text is refused when it is sent. */
function sizeOf(name: string, value: unknown): number {
  return LENGTHS + name.length + (typeof value === 'string' ? Buffer.byteLength(value) : 0)
}

/** @throws {RingbellError} `ERR_RINGBELL_MISSING_PACKAGE`. */
function load(): typeof Api {
  try {
    return createRequire(import.meta.url)('@opentelemetry/api') as typeof Api
  } catch (cause) {
    throw missingPackage('ringbell/tracing', '@opentelemetry/api', cause)
  }
}
