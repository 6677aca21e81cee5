/**
 * The route to the primary of a service group. Calls go to the connection whose record says that its member is primary in the latest
 * epoch that any record has said. An earlier primary that has not noticed its end gets no calls, and its answers do not count: they
 * are kept back until its record says that it has noticed, because then it has answered nothing after its end. A
 * member that has refused a call gets none until a later term.
 *
 * This is the policy alone: it knows connections by what it needs of them.
 */
import type { RoleInfo } from '../bus/membership.js'
import { type Choice, isUsable } from './routing.js'

/** A connection whose answers can be doubted. */
export interface Doubted extends Choice {
  suspect(milliseconds: number, why: string): void
  trust(): void
}

/**
 * Records are not always read in the order in which they change. For so many milliseconds, a process that is primary by its record may
 * have noticed all the same that it was replaced. Where inotify is refused, records are read every 250.
 */
const PATIENCE = 1000

export class PrimaryRoute<C extends Doubted> {
  readonly #roleOf: (connection: C) => RoleInfo | undefined
  /** The latest epoch in which a member is known to have refused, which it told before its record did. */
  readonly #refused = new WeakMap<C, number>()
  /** The latest epoch in which a member was primary. */
  #epoch = 0
  /** Where calls go, until something changes. */
  #target: C | undefined

  /** `roleOf`: what the record at the other end of a connection says. */
  constructor(roleOf: (connection: C) => RoleInfo | undefined) {
    this.#roleOf = roleOf
  }

  /** The latest epoch that is known. A call that is sent now is sent in it. */
  get epoch(): number {
    return this.#epoch
  }

  /** Records say this, or the connections are others now. */
  learn(roles: readonly (RoleInfo | undefined)[], connections: readonly C[]): void {
    this.#target = undefined
    const epochs = roles.map((role) => (role?.role === 'primary' ? role.epoch : 0))
    const epoch = Math.max(this.#epoch, ...epochs)
    const later = epoch > this.#epoch
    this.#epoch = epoch
    for (const one of connections)
      if (!this.#isReplaced(one)) one.trust()
      else if (later) one.suspect(PATIENCE, 'another process is primary now, and this one has not noticed.')
  }

  /** The member has refused a call that was sent in this epoch. It may be primary again since, and its refusals are late. */
  refusedBy(connection: C, epoch: number): void {
    this.#refused.set(connection, Math.max(epoch, this.#refused.get(connection) ?? 0))
    this.#target = undefined
  }

  pick(connections: readonly C[]): C | undefined {
    if (this.#target !== undefined && isUsable(this.#target)) return this.#target
    return (this.#target = connections.find((one) => isUsable(one) && this.#isPrimary(one)))
  }

  #isPrimary(connection: C): boolean {
    const role = this.#roleOf(connection)
    return role?.role === 'primary' && role.epoch === this.#epoch && (this.#refused.get(connection) ?? 0) < this.#epoch
  }

  #isReplaced(connection: C): boolean {
    const role = this.#roleOf(connection)
    return role?.role === 'primary' && role.epoch < this.#epoch
  }
}
