/** How one side of a channel turns values into bytes and back: its codec, and the schemas of requests and replies if it has any. */
import { inspect } from 'node:util'
import { RingbellError } from '../errors.js'
import { EMPTY } from './bytes.js'
import { bytes as bytesCodec, type Codec, decodeWith, encodeWith, json } from './index.js'
import { followed, isThenable, type Schema, validated, validatedNow } from './schema.js'

export class PayloadCodec {
  readonly codec: Codec<unknown>
  /** The bytes that it makes are the user's own, not a scratch buffer of the codec. */
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
    if (value instanceof Uint8Array) return value
    throw new RingbellError(
      'ERR_RINGBELL_CODEC',
      `Without a codec values are Uint8Arrays, but ${inspect(value, { depth: 0, maxStringLength: 100 })} is not a Uint8Array.`,
    )
  }

  /** @throws {RingbellError} `ERR_RINGBELL_CODEC`. */
  decode(data: Uint8Array): unknown {
    return this.own ? data : decodeWith(this.codec, data)
  }

  /** What stands for a reply of nothing. */
  get nothing(): unknown {
    return this.own ? EMPTY : undefined
  }

  /** Checked against the schema of requests; a promise only if that answers with one. */
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

/** For questions about the server itself: nothing, answered in JSON. */
export const INQUIRY = new PayloadCodec({ ...json, encode: () => EMPTY })

/** Goes on with a value, at once or when it is there. What `then` throws becomes a call of `otherwise`. */
export function whenThere(value: unknown, then: (value: unknown) => void, otherwise: (error: unknown) => void): void {
  try {
    if (isThenable(value)) void followed(value).then(then).then(undefined, otherwise)
    else then(value)
  } catch (error) {
    otherwise(error)
  }
}
