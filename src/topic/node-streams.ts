/**
 * Adapters to Node's streams, with back-pressure at both ends. A Readable stops receiving while its consumer is slow;
 * on a `block` topic that slows down the publisher. A Writable calls back when the chunk is in the ring.
 */
import { Readable, type ReadableOptions, Writable } from 'node:stream'
import { anything, check, flag, type Rules, signal } from '../check.js'
import type { SignalOptions } from '../wait/abort.js'
import type { AsyncIteration } from '../wait/async-iteration.js'
import type { Message } from './reading/message.js'

/** How `publisher.writable()` takes chunks. */
export interface WritableOptions {
  /** Chunks are values for the publisher's codec, not bytes. It is the default if that codec is not `bytes`. */
  objectMode?: boolean | undefined
  /** The same as for any Node stream. */
  highWaterMark?: number | undefined
  /** When it fires, the stream is destroyed and a wait for room ends. */
  signal?: AbortSignal | undefined
}

const STREAM: Rules = { objectMode: flag, highWaterMark: anything, signal }

/** What a Readable reads from. */
interface MessagesOf<T> {
  messages(): AsyncIteration<Message<T>>
}

/** What a Writable writes to. */
interface SinkOf<T> {
  /** Whether chunks are values and not bytes. */
  readonly objectMode: boolean
  send(value: T): boolean
  write(value: T, options: SignalOptions): Promise<void>
}

export function readable<T>(
  subscriber: MessagesOf<T>,
  options: Pick<ReadableOptions, 'objectMode' | 'highWaterMark' | 'signal'>,
): Readable {
  check(options, STREAM)
  const { objectMode = false } = options
  // The first read begins the iteration. Before that the subscriber must stay free, because the stream's own options
  // may be refused.
  let messages: ReturnType<typeof subscriber.messages> | undefined
  let reading = false
  let wanted = false

  const push = (stream: Readable, message: Message<T>): boolean => {
    if (objectMode) return stream.push(message)
    // Node drops an empty chunk, and some versions take it for the end.
    return message.byteLength === 0 || stream.push(message.data)
  }

  const pump = async (stream: Readable): Promise<void> => {
    messages ??= subscriber.messages()
    for (;;) {
      const { value, done } = await messages.next()
      if (done === true) {
        stream.push(null)
        return
      }
      wanted = false
      if (push(stream, value) || wanted) continue
      // This must follow the check above at once. Otherwise a `_read` in between would see `reading`, and nothing
      // would read.
      reading = false
      return
    }
  }

  return new Readable({
    ...options,
    read() {
      wanted = true
      if (reading) return
      reading = true
      pump(this).catch((error: unknown) => this.destroy(error as Error))
    },
    destroy(error, callback) {
      void messages?.return()
      callback(error)
    },
  })
}

export function writable<T>(publisher: SinkOf<T>, options: WritableOptions): Writable {
  check(options, STREAM)
  const over = new AbortController()

  const { objectMode = publisher.objectMode, highWaterMark, signal } = options
  return new Writable({
    objectMode,
    decodeStrings: !objectMode,
    ...(highWaterMark === undefined ? {} : { highWaterMark }),
    ...(signal === undefined ? {} : { signal }),
    write(chunk: T, _encoding, callback) {
      try {
        if (publisher.send(chunk)) {
          callback()
          return
        }
      } catch (error) {
        if ((error as { code?: unknown }).code !== 'ERR_RINGBELL_MESSAGE_TOO_LARGE') {
          callback(error as Error)
          return
        }
      }
      // The callback runs outside of the promise, because its exceptions belong to the stream.
      void later(publisher.write(chunk, { signal: over.signal }), callback)
    },
    destroy(error, callback) {
      over.abort(error)
      callback(error)
    },
  })
}

async function later(written: Promise<void>, callback: (error?: Error | null) => void): Promise<void> {
  let failure: Error | undefined
  try {
    await written
  } catch (error) {
    failure = error as Error
  }
  process.nextTick(callback, failure)
}
