/** The options of states and of their readers. Those that only TypeScript knows are checked here; the core checks the others. */
import type { Description } from '../bus/options.js'
import type { Rung } from '../bus/service.js'
import { anything, checkArgument, coreJson, flag, integer, type Rules, signal, text } from '../check.js'
import type { CodecOption } from '../codec/index.js'
import { type InputSchema, type Schema, schemaId, standardSchema } from '../codec/schema.js'
import type { TopicAccess } from '../topic/options.js'
import type { ReconnectOptions } from '../wait/backoff.js'
import type { SignalOptions } from '../wait/abort.js'
import { checkWait, type WaitOption } from '../wait/policy.js'

/** How a state keeps its value, and who may read it. `T`: what `set` takes. `C`: what the codec takes. */
export interface StateOptions<T = Uint8Array, C = T> extends Description, SignalOptions {
  /** The largest value in bytes, 16 KiB by default. With keys: a key and its value together. */
  size?: number | undefined
  /**
   * Bytes of the ring: a power of two from 4 KiB to 1 GiB. A value and its header may have a quarter of
   * it; with keys an eighth, and all keys and values together half. By default what `size` needs, and with keys 1 MiB at least.
   */
  capacity?: number | undefined
  /** Places for readers, 1 to 1024, 64 by default. */
  maxReaders?: number | undefined
  /** How values become bytes, `'bytes'` by default. Its id is in the record. */
  codec?: CodecOption<C> | undefined
  /** The schema of values: any Standard Schema that answers at once. It checks what `set` gets, which is sent as given. */
  schema?: InputSchema<T> | undefined
  /** Lets processes of the same user copy our descriptors under Yama, as with a topic. */
  allowDirect?: boolean | undefined
  /** The rungs that it offers; by default all that work. */
  offers?: Rung[] | undefined
  /** Let other users read; by default only root may. */
  access?: TopicAccess | undefined
  /** Stand by while another process writes the state: the promise resolves when it is this one's turn. By default it is refused. */
  standby?: boolean | undefined
}

/** How to read a state. `T`: the values. `C`: what the codec returns. */
export interface StateReaderOptions<T = Uint8Array, C = T> {
  /** The expected codec. The reader does not attach to a writer with another one (`'failed'`). Without it, values come as bytes. */
  codec?: CodecOption<C> | undefined
  /** The schema of values: any Standard Schema that answers at once. Reads return what it returns. */
  schema?: Schema<T> | undefined
  /** How to wait for changes, `'adaptive'` by default. */
  wait?: WaitOption | undefined
  /** Forces a rung of the acquisition ladder. */
  acquire?: Rung | 'auto' | undefined
  /** How to try again when the connection of a stream fails although its writer lives. */
  reconnect?: ReconnectOptions | undefined
}

const KEY = text(2 ** 28)
/** The rules for the options of a watch. */
export const WATCH: Rules = { key: KEY, prefix: text(2 ** 28), signal }
const READER: Rules = { codec: anything, schema: standardSchema, wait: checkWait }
/** The core knows the exact limit of `size`, which depends on the keys. */
const WRITER: Rules = {
  codec: anything,
  schema: standardSchema,
  schemaId,
  size: integer(1, 2 ** 28),
  maxReaders: integer(1, 1024),
  standby: flag,
  signal,
}

/** `epoch`: that of the claim on the name. */
export function stateJson(options: StateOptions<unknown>, codecId: string, epoch: number): string {
  return coreJson(options, WRITER, ({ schemaId: schema, size, maxReaders }) => ({
    codec: codecId,
    schema,
    size,
    maxReaders,
    epoch,
  }))
}

export function stateReaderJson(options: StateReaderOptions<unknown>, codecId: string | undefined): string {
  return coreJson(options, READER, () => ({ codec: codecId }))
}

/** @throws {RingbellError} `ERR_RINGBELL_INVALID_OPTION`. */
export function checkKey(key: unknown): void {
  checkArgument('key', key, KEY)
}
