/**
 * The place of a tracer. `ringbell/tracing` puts one here; without it there is none, and a look at this variable is all that
 * tracing costs. Whatever sends headers asks `outgoing`, and whatever calls handlers asks `tracer`. Nothing else knows of it.
 */
import type { MessageHeaders } from './headers.js'

/** Carries the context of whoever sends something to whoever handles it. */
export interface Tracer {
  /** The headers to send in place of these: they say the present context, too, as far as all of them take at most `room` bytes. */
  inject(headers: MessageHeaders | undefined, room: number): MessageHeaders | undefined
  /** Calls `body` in the context that these headers say. */
  run<R>(headers: MessageHeaders, body: () => R): R
}

export let tracer: Tracer | undefined

export function setTracer(wanted: Tracer | undefined): void {
  tracer = wanted
}

/** The headers to send. `given`: those of the user. `room`: bytes that the message has beside its payload. */
export function outgoing(given: MessageHeaders | undefined, room = Infinity): MessageHeaders | undefined {
  return tracer === undefined ? given : tracer.inject(given, room)
}
