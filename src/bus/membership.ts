/**
 * What the servers and publishers of a service group know of their member: whether it may act, and which epoch it acts in. They tell
 * it to their record, refuse while it may not, and answer nothing after its term has ended. The member itself is in src/group.
 */
import type { Rule } from '../check.js'
import { RingbellError } from '../errors.js'
import { Emitter } from '../wait/emitter.js'

/** What a member is in its group: the one that acts, or one that waits to. */
export type Role = 'primary' | 'standby'

/** The role of a member, as a record says it. */
export interface RoleInfo {
  /** What it is. */
  readonly role: Role
  /** The epoch of its term; of its last one while it is a standby, and 0 if it had none. */
  readonly epoch: number
}

/** The events of a member. There are none after `leave()`. */
export interface MemberEvents {
  /** It became primary, or a standby. */
  role: [info: RoleInfo]
  /** Its claim could not be had, or a record could not be written: it tries again. Or another member could not be asked for its socket. */
  failed: [error: RingbellError]
}

/** A server or publisher of a member. */
export interface MemberPart {
  /** Its record must say this from now on. */
  announce(info: RoleInfo): void
  /** Resolves when nothing is under way that was begun in this term. */
  settled(): Promise<void>
  /** The term has ended: what is still under way is not answered. */
  disown(reason: RingbellError): void
  /** The member acts no more, and its process may end: takes nothing new. Resolves when nothing is on its way any more. */
  retire(): Promise<void>
}

/** What `{ member }` takes: `bus.join()` makes it. */
export abstract class Membership extends Emitter<MemberEvents> {
  /** The group's name. */
  abstract readonly group: string
  /** What it is in its group now. */
  abstract readonly role: Role
  /** The epoch of its term; of its last one while it is a standby, and 0 if it had none. */
  abstract readonly epoch: number
  /** @internal Adds a part. Returns how to remove it. */
  abstract include(part: MemberPart): () => void
}

/** The role, as a record has it. */
export function roleOf(member: Membership | undefined): RoleInfo | undefined {
  return member === undefined ? undefined : { role: member.role, epoch: member.epoch }
}

export const member: Rule = (value) =>
  value instanceof Membership ? undefined : 'must be a member, as bus.join() returns it'

/** Why a term has ended that nobody took away. */
export function steppedDown({ group }: Membership): RingbellError {
  return new RingbellError('ERR_RINGBELL_NOT_PRIMARY', `This process has stepped down as the primary of '${group}'.`)
}

/** The refusal of a part whose member is not primary. */
export function notPrimary({ group }: Membership): RingbellError {
  return new RingbellError(
    'ERR_RINGBELL_NOT_PRIMARY',
    `This process is a standby for '${group}', so nothing was done; connect with route: 'primary' to reach the primary.`,
  )
}
