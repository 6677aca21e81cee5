/**
 * Errors that cross a channel: what a handler threw, as the caller sees it. Code, name and message are kept; the stack
 * is not. If the thrown value or the received bytes are hostile, at worst the text is lost.
 */
import { Buffer } from 'node:buffer'

/** An error that happened at the other end: `code` and `message` are those of what was thrown there. */
export class RemoteError extends Error {
  /** Always `'RemoteError'`; the name of the thrown error is `remoteName`. */
  override name = 'RemoteError'
  /** The `code` of what was thrown, if it had one. */
  readonly code: string | undefined
  /** The `name` of what was thrown, such as `'TypeError'`. */
  readonly remoteName: string

  /** @internal */
  constructor(message: string, code: string | undefined, remoteName: string) {
    super(message)
    this.code = code
    this.remoteName = remoteName
  }
}

/** Limits in UTF-16 code units; longer texts are cut. */
const LONGEST_TEXT = 8192
const LONGEST_LABEL = 256

export function encodeError(thrown: unknown): Uint8Array {
  const [code, name, message] = described(thrown)
  return Buffer.from(JSON.stringify({ code, name, message }), 'utf8')
}

export function decodeError(data: Uint8Array): RemoteError {
  const { code, name, message } = parsed(data)
  return new RemoteError(
    textOr(message, 'The other side failed, and its error could not be read', LONGEST_TEXT),
    typeof code === 'string' ? code.slice(0, LONGEST_LABEL) : undefined,
    textOr(name, 'Error', LONGEST_LABEL),
  )
}

/** Getters and `toString` of a thrown value are user code, and may throw. */
function described(thrown: unknown): [code: string | undefined, name: string, message: string] {
  try {
    if (typeof thrown !== 'object' || thrown === null)
      return [undefined, 'Error', String(thrown).slice(0, LONGEST_TEXT)]
    const { code, name, message } = thrown as { code?: unknown; name?: unknown; message?: unknown }
    return [
      typeof code === 'string' || typeof code === 'number' ? String(code).slice(0, LONGEST_LABEL) : undefined,
      textOr(name, 'Error', LONGEST_LABEL),
      textOr(message, 'The handler threw something that is not an error', LONGEST_TEXT),
    ]
  } catch {
    return [undefined, 'Error', 'The handler threw something that cannot be described']
  }
}

function parsed(data: Uint8Array): { code?: unknown; name?: unknown; message?: unknown } {
  try {
    const value: unknown = JSON.parse(Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString('utf8'))
    return typeof value === 'object' && value !== null ? value : {}
  } catch {
    return {}
  }
}

function textOr(value: unknown, otherwise: string, most: number): string {
  return typeof value === 'string' ? value.slice(0, most) : otherwise
}
