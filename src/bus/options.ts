/** The options of a bus and of announcements (the core checks them), and those of waiting on a bus (checked here). */
import {
  check,
  checkArgument,
  coreJson,
  duration,
  LONGEST_MS,
  plainObject,
  type Rule,
  type Rules,
  signal,
  text,
} from '../check.js'
import { type EndpointAddress, type HealthOptions, OFFER } from '../announce/options.js'
import { schemaId } from '../codec/schema.js'
import { strictJson } from '../strict-json.js'
import type { Rung } from './service.js'

/** Which directory to use, and how. */
export interface BusOptions {
  /**
   * The directory. Without it, the first of these that is set: `IPC_BUS_DIR`; `/run/ipc-bus` for root;
   * `$XDG_RUNTIME_DIR/ipc-bus`; `/tmp/ipc-bus-UID`. If that one cannot be used, the next is not tried.
   */
  path?: string | undefined
  /** A separate name space: a sub-directory. */
  domain?: string | undefined
  /** Use the system's bus, `/run/ipc-bus`, even if `IPC_BUS_DIR` is set. Not together with `path`. */
  system?: boolean | undefined
  /**
   * Make the directory if there is none (the default). With `false` a missing one is an error: `ERR_RINGBELL_SYSTEM` with
   * the `errno` of ENOENT.
   */
  create?: boolean | undefined
  /** Accept a sticky directory that others can write to. */
  allowSticky?: boolean | undefined
  /**
   * Share the directory with this group, by name or number. The directory is setgid, sticky and writable by the group
   * (mode 3770). It is created so if it does not exist, and refused if it is different. Other users can use an
   * announcement in it only if that has `access`.
   */
  group?: string | number | undefined
  /** Users that are trusted besides our own and root: their records are accepted, and a directory of theirs may be used. */
  trustedUids?: number[] | undefined
  /** `'poll'`: scan instead of using inotify, as `IPC_BUS_WATCH=poll` does. */
  watch?: 'inotify' | 'poll' | undefined
  /** Milliseconds between two scans if inotify is not used. */
  pollInterval?: number | undefined
  /** Forces a rung of the acquisition ladder, as `IPC_BUS_ACQUIRE` does. */
  acquire?: Rung | 'auto' | undefined
  /** Rings every doorbell through Linux AIO, so that no peer can make this process block, as `IPC_BUS_SAFE_DOORBELLS=1` does. */
  safeDoorbells?: boolean | undefined
}

/** Which other users may read a record and use what it announces, for example a server. Our own user and root always may. */
export interface Access {
  /**
   * `0o660` (the default with a group): only the group can reach the socket, and no other user, listed or not. `0o666`
   * (the default otherwise): every user that can enter the directory can reach the socket, and the permitted users are
   * let in.
   */
  mode?: number | undefined
  /** The group that the record and the socket belong to. Its members are permitted. By default the group of the bus. */
  group?: string | number | undefined
  /** Permitted users. */
  uids?: number[] | undefined
  /** More groups whose members are permitted. */
  gids?: number[] | undefined
}

/** The description that any announcement may have. */
export interface Description {
  /**
   * Anything that others should know, as JSON carries it; at most about 60 KiB in total. A `Date` becomes a string, and
   * properties that are `undefined` are left out. What JSON would change in silence is refused with its path: `Map`, `Set`,
   * typed arrays, bigints, functions, cycles, `NaN`, half of a surrogate pair.
   */
  metadata?: Record<string, unknown> | undefined
  /** Addresses by name, such as `{ http: 'unix:/run/api.sock' }`. */
  endpoints?: Record<string, string> | undefined
  /** The id of the payload's schema, for the record: 1 to 256 bytes. It says which schema is meant, and checks nothing. */
  schemaId?: string | undefined
}

/** What `bus.announce` announces. */
export interface AnnounceOptions extends Omit<Description, 'endpoints'> {
  /**
   * Where it can be reached, by name: a server of `node:net` or `node:http`, a path (`/run/api.sock`, `./api.sock`) or a URL, such as
   * `{ http: server }`. The record appears once every server listens, and goes when one of them has closed.
   */
  endpoints?: Record<string, EndpointAddress> | undefined
  /** Words by which others choose; they are `metadata.tags` of the record. */
  tags?: readonly string[] | undefined
  /**
   * Checks it again and again, and tells others by `metadata.health`: `'passing'`, or `'failing'`, and then `resolve` does not choose it.
   * `true`: every endpoint accepts a connection.
   */
  health?: boolean | HealthOptions | undefined
  /** `'service'` by default. */
  kind?: string | undefined
  /** The id of the codec that it uses. */
  codec?: string | undefined
  /** Let other users read the record, independent of the umask. */
  access?: Access | undefined
}

const WAIT_FOR: Rules = { signal, timeout: duration(0, LONGEST_MS, 'milliseconds') }
// The core has an option of that name: the id.
const NO_SCHEMA: Rule = () => 'is not an option here; the id of a schema is schemaId'
const ANNOUNCE: Rules = { schemaId, schema: NO_SCHEMA, ...OFFER }
const WATCH: Rules = { signal, filter: text(256) }

export function busJson(options: BusOptions): string {
  return coreJson(options, {})
}

export function checkAnnounce(options: AnnounceOptions): void {
  coreJson(options, ANNOUNCE)
}

/** `endpoints`: as the record has them. `fields`: those of the metadata that are not the user's. */
export function announceJson(options: AnnounceOptions, endpoints?: object, fields: object = {}): string {
  if (Object.keys(fields).length === 0) return coreJson(options, ANNOUNCE, core)
  const { metadata = {} } = options
  checkArgument('metadata', metadata, plainObject)
  return coreJson({ ...options, metadata: { ...metadata, ...fields } }, ANNOUNCE, core)

  function core({ schemaId: schema }: AnnounceOptions): object {
    return { schema, endpoints }
  }
}

export function metadataJson(metadata: Record<string, unknown>): string {
  return strictJson(metadata, 'metadata')
}

export function checkWaitFor(options: object): void {
  check(options, WAIT_FOR)
}

export function checkWatch(options: object): void {
  check(options, WATCH)
}
