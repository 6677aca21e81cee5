/** The options of a bus and of announcements, which the core checks, and those of waiting on a bus, which are checked here. */
import { check, coreJson, duration, jsonOf, LONGEST_MS, type Rules, signal, text } from '../check.js'
import type { Rung } from './service.js'

/** Which directory, and how to look at it. */
export interface BusOptions {
  /**
   * The directory. Without it, in this order: `IPC_BUS_DIR`; `/run/ipc-bus` for root; `$XDG_RUNTIME_DIR/ipc-bus`; `/tmp/ipc-bus-UID`.
   * None of them is passed over because it cannot be used.
   */
  path?: string | undefined
  /** A name space of its own: a sub-directory. */
  domain?: string | undefined
  /** The system's bus, `/run/ipc-bus`, whatever `IPC_BUS_DIR` says; not together with `path`. */
  system?: boolean | undefined
  /**
   * Make the directory if there is none (the default). With `false` a missing one is an error: `ERR_RINGBELL_SYSTEM`, `errno`
   * `'ENOENT'`.
   */
  create?: boolean | undefined
  /** Accept a sticky directory that others can write to. */
  allowSticky?: boolean | undefined
  /**
   * Share the directory with this group, by name or number: it is setgid, sticky and writable by the group (mode 3770), made so
   * if there is none, refused if it is otherwise. Announcements in it are for others only with `access`.
   */
  group?: string | number | undefined
  /** Users whose records are believed, and whose directory is used, besides our own and root's. */
  trustedUids?: number[] | undefined
  /** `'poll'` does without inotify, as `IPC_BUS_WATCH=poll` does. */
  watch?: 'inotify' | 'poll' | undefined
  /** Milliseconds between two scans where there is no inotify. */
  pollInterval?: number | undefined
  /** Forces a rung of the acquisition ladder, as `IPC_BUS_ACQUIRE` does. */
  acquire?: Rung | 'auto' | undefined
  /** Rings every doorbell through Linux AIO, so that no peer can make this process block, as `IPC_BUS_SAFE_DOORBELLS=1` does. */
  safeDoorbells?: boolean | undefined
}

/** Which other users may read a record and use what it announces: a server, say. One's own user and root always may. */
export interface Access {
  /**
   * `0o660`: the group can reach the socket (the default where there is a group), and no other user, listed or not;
   * `0o666`: every user who can enter the directory reaches it (the default otherwise), and the permitted ones are let in.
   */
  mode?: number | undefined
  /** The group that record and socket belong to, whose members may; by default the bus's own. */
  group?: string | number | undefined
  /** Users who may. */
  uids?: number[] | undefined
  /** More groups whose members may. */
  gids?: number[] | undefined
}

/** What any announcement may say about itself. */
export interface Description {
  /** Whatever others should know; what JSON can carry, all in all at most about 60 KiB. */
  metadata?: Record<string, unknown> | undefined
  /** Addresses by name, such as `{ http: 'unix:/run/api.sock' }`. */
  endpoints?: Record<string, string> | undefined
  /** The id of the payload's schema. */
  schema?: string | undefined
}

export interface AnnounceOptions extends Description {
  /** `'service'` by default. */
  kind?: string | undefined
  /** The id of the codec that is spoken. */
  codec?: string | undefined
  /** Let other users read the record, whatever the umask says. */
  access?: Access | undefined
}

const WAIT_FOR: Rules = { signal, timeout: duration(0, LONGEST_MS, 'milliseconds') }
const WATCH: Rules = { signal, filter: text(256) }

export function busJson(options: BusOptions): string {
  return coreJson(options, {})
}

export function announceJson(options: AnnounceOptions): string {
  return coreJson(options, {})
}

export function metadataJson(metadata: Record<string, unknown>): string {
  return jsonOf(metadata, 'metadata')
}

export function checkWaitFor(options: object): void {
  check(options, WAIT_FOR)
}

export function checkWatch(options: object): void {
  check(options, WATCH)
}
