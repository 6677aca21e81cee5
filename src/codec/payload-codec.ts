/** Turns values into bytes and back for one side of a channel: its codec, and its schemas of requests and replies, if any. */
import { inspect } from 'node:util'
import { isBytes } from '../brand.js'
import { RingbellError } from '../errors.js'
import { copied, EMPTY } from './bytes.js'
import { bytes as bytesCodec, type Codec, decodeWith, encodeWith, json } from './index.js'
import { followed, isThenable, type Schema, validated, validatedNow } from './schema.js'

export class PayloadCodec {
  readonly codec: Codec<unknown>
  /** The encoded bytes are the user's own memory, not a scratch buffer of the codec. */
  readonly own: boolean
  readonly requests: Schema<unknown> | undefined
  readonly replies: Schema<unknown> | undefined

  constructor(codec: Codec<unknown>, requests?: Schema<unknown>, replies?: Schema<unknown>) {
    this.codec = codec
    this.own = codec === (bytesCodec as Codec<unknown>)
    this.requests = requests
    this.replies = replies
  }

  /** @throws {RingbellError} `ERR_RINGBELL_CODEC`. */
  encode(value: unknown): Uint8Array {
    if (!this.own) return encodeWith(this.codec, value)
    if (isBytes(value)) return value
    throw new RingbellError(
      'ERR_RINGBELL_CODEC',
      `Without a codec a value must be a Uint8Array, and ${inspect(value, { depth: 0, maxStringLength: 100 })} is not.`,
    )
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

  /** The value of a reply without data. */
  get nothing(): unknown {
    return this.own ? EMPTY : undefined
  }

  /** The request after its schema has checked it; a promise only if the schema returns one. */
  request(value: unknown): unknown {
    return this.requests === undefined ? value : validated(this.requests, value, 'request')
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
