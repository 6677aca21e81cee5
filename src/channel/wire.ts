/**
 * What travels over a channel: the kinds of messages and their flags, as in docs/protocol.md, "Channels". The binding writes the
 * 16-byte header (kind, flags, aux, id) and cuts it off. Kind, flags and the length of the headers that lie behind the data travel
 * through this folder as one number, the *head*. What stands above the kind is called flags, and so has that length, too.
 */

export const KIND = {
  /** A plain message. */
  message: 0,
  /** `aux`: its timeout in milliseconds, 0 for none. */
  request: 1,
  /** The one answer to a request. It has the id of the request, and so do `error`, `cancel`, `chunk`, `end` and `credit`. */
  reply: 2,
  /** In place of an answer: JSON of code, name and message. */
  error: 3,
  /** The caller wants no answer any more. */
  cancel: 4,
  /** One piece of a streamed answer. */
  chunk: 5,
  /** A streamed answer is complete. */
  end: 6,
  /** `aux` more chunks may be sent. With id 0: so many more bytes of plain messages, or jobs of a work queue. */
  credit: 7,
  /** Send no new requests. Requests that are under way are still answered. */
  goodbye: 8,
} as const

/** The second byte of the word in which kind and flags travel. */
export const FLAGS_AT = 8
/** Its upper half: how many bytes of headers lie behind the data. */
export const HEADERS_AT = 16
/** The same where the kind is cut off. */
export const HEADERS_IN_FLAGS = HEADERS_AT - FLAGS_AT

/** Flag of a request: it may have been handled before. */
export const RETRIED = 1
/** Flag of a request: a stream is wanted, paced by credit. */
export const STREAM = 2
/** Flag of a request: it is not for the handler; the answer is JSON of the counters of the server or queue. */
export const ABOUT = 4
/** Flag of a job: the queue wants what the worker's handler returns. Without it the reply has no data. */
export const RESULT = 8
/** Flag of a reply: the handler returned nothing. */
export const VOID = 1
/** Flag of an error: the handler was not called. */
export const NOT_BEGUN = 1
/** Flag of an error: the handler was not called, because this member of a group is not primary. */
export const NOT_PRIMARY = 2
/**
 * Flag of an error: it is unknown what the handler has done. The term of the member ended while it ran, or the server passes calls on to
 * another one, which it has lost.
 */
export const TERM_OVER = 4

/** Flag of an error: the server passes calls on to another one, and no part of this call can have reached that one's handler. */
export const NOT_REACHED = 8

export const HEADER_BYTES = 16

/** Bytes of data and headers that one message can have: with its channel header it is a message of 1 GiB. */
export const LARGEST = 2 ** 30 - HEADER_BYTES

/** Bytes of plain messages, headers included, that one side may be ahead of the other's reader. */
export const MESSAGE_WINDOW = 256 * 1024

/** Chunks that a streamed reply may be ahead of its reader. */
export const STREAM_WINDOW = 32
