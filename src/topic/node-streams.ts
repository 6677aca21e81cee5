/**
 * Adapters to Node's streams, with back-pressure at both ends. A Readable stops receiving while its consumer is slow; on a `block` topic
 * the publisher feels it. A Writable calls back when the ring has taken the chunk.
 */
import { Readable, type ReadableOptions, Writable } from 'node:stream'
import type { SignalOptions } from '../wait/abort.js'
import type { Message } from './reading/message.js'

/** How `publisher.writable()` takes chunks. */
export interface WritableOptions {
  /** Chunks are values for the publisher's codec, not bytes. Set by itself when that codec is not `bytes`. */
  objectMode?: boolean | undefined
  /** As of any Node stream. */
  highWaterMark?: number | undefined
  /** Destroys the stream; a wait for room ends. */
  signal?: AbortSignal | undefined
}

/** What a Readable reads from. */
interface MessagesOf<T> {
  messages(): AsyncIterableIterator<Message<T>, undefined>
}

/** What a Writable writes to. */
interface SinkOf<T> {
  /** Values are handed over, and not bytes. */
  readonly objectMode: boolean
  send(value: T): boolean
  write(value: T, options: SignalOptions): Promise<void>
}

export function readable<T>(
  subscriber: MessagesOf<T>,
  options: Pick<ReadableOptions, 'objectMode' | 'highWaterMark' | 'signal'>,
): Readable {
  const { objectMode = false } = options
  // Only who reads holds the subscriber: the stream's own options may be refused.
  let messages: ReturnType<typeof subscriber.messages> | undefined
  let reading = false
  let wanted = false

  const push = (stream: Readable, message: Message<T>): boolean => {
    if (objectMode) return stream.push(message)
    // An empty chunk would be dropped, and in some versions of Node look like the end.
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
      // In the same breath, or a `_read` in between would find somebody reading, and nobody would.
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
      void messages?.return?.()
      callback(error)
    },
  })
}

export function writable<T>(publisher: SinkOf<T>, options: WritableOptions): Writable {
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
      // The callback's own exceptions are the stream's, not a rejection of the wait.
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
