/**
 * Turns values into bytes and back for one endpoint: its codec, and its schemas, if any. Topics, queues and connections use
 * `encodeMessage` and `decodeMessage`; calls check requests and replies by themselves, because their schemas may answer
 * with a promise. Everything here may throw, because codecs and schemas are user code: call it only where the error reaches
 * the one who waits.
 */
import { checkBytes, copied, EMPTY } from './bytes.js'
import { bytes as bytesCodec, type Codec, decodeWith, encodeWith, json } from './index.js'
import { followed, isThenable, type Schema, validated, validatedNow } from './schema.js'

/** The schemas of one endpoint. */
export interface Schemas {
  readonly requests?: Schema<unknown> | undefined
  readonly replies?: Schema<unknown> | undefined
  /** Of what is neither a request nor a reply. */
  readonly messages?: Schema<unknown> | undefined
}

/** What error texts call them: in a work queue a request is a message, and a message of a state is a value. */
export interface Words {
  readonly request?: string
  readonly message?: string
}

export class PayloadCodec {
  readonly codec: Codec<unknown>
  /** The encoded bytes are the user's own memory, not a scratch buffer of the codec. */
  readonly own: boolean
  readonly requests: Schema<unknown> | undefined
  readonly replies: Schema<unknown> | undefined
  readonly #messages: Schema<unknown> | undefined
  readonly #words: Required<Words>

  constructor(
    codec: Codec<unknown>,
    { requests, replies, messages }: Schemas = {},
    { request = 'request', message = 'message' }: Words = {},
  ) {
    this.codec = codec
    this.own = codec === (bytesCodec as Codec<unknown>)
    this.requests = requests
    this.replies = replies
    this.#messages = messages
    this.#words = { request, message }
  }

  /** Messages are bytes, and stay as they are. */
  get plain(): boolean {
    return this.own && this.#messages === undefined
  }

  /** @throws {RingbellError} `ERR_RINGBELL_CODEC`. */
  encode(value: unknown): Uint8Array {
    if (!this.own) return encodeWith(this.codec, value)
    checkBytes(value)
    return value
  }

  /** The same, for bytes that are kept: a codec may use its scratch buffer again. */
  encodeKept(value: unknown): Uint8Array {
    const data = this.encode(value)
    return this.own ? data : copied(data)
  }

  /** @throws {RingbellError} `ERR_RINGBELL_CODEC`. */
  decode(data: Uint8Array): unknown {
    return this.own ? data : decodeWith(this.codec, data)
  }

  /** A message to send. @throws {RingbellError} `ERR_RINGBELL_CODEC`, `ERR_RINGBELL_SCHEMA`. */
  encodeMessage(value: unknown): Uint8Array {
    if (this.#messages !== undefined) validatedNow(this.#messages, value, this.#words.message)
    return this.encode(value)
  }

  /** A message that came. @throws {RingbellError} `ERR_RINGBELL_CODEC`, `ERR_RINGBELL_SCHEMA`. */
  decodeMessage(data: Uint8Array): unknown {
    const value = this.decode(data)
    return this.#messages === undefined ? value : validatedNow(this.#messages, value, this.#words.message)
  }

  /** The value of a reply without data. */
  get nothing(): unknown {
    return this.own ? EMPTY : undefined
  }

  /** The request as its schema returns it; a promise only if the schema returns one. The sender needs only the check. */
  request(value: unknown): unknown {
    return this.requests === undefined ? value : validated(this.requests, value, this.#words.request)
  }

  reply(value: unknown): unknown {
    return this.replies === undefined ? value : validated(this.replies, value, 'reply')
  }

  replyNow(value: unknown): unknown {
    return this.replies === undefined ? value : validatedNow(this.replies, value, 'reply')
  }
}

/** For requests about the server itself: they have no data, and the answer is JSON. */
export const INQUIRY = new PayloadCodec({ ...json, encode: () => EMPTY })

/**
 * Calls `then` with a value, at once or when the promise of it resolves. A rejection or an error that `then` throws
 * goes to `otherwise`.
 */
export function whenThere(value: unknown, then: (value: unknown) => void, otherwise: (error: unknown) => void): void {
  try {
    if (isThenable(value)) void followed(value).then(then).then(undefined, otherwise)
    else then(value)
  } catch (error) {
    otherwise(error)
  }
}
