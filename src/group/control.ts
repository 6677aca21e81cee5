/**
 * The control service of a member, `<group>.member`: what managers ask of it. Requests and answers are JSON. The answer comes from the
 * member's own event loop, so a process that is stopped or hangs does not answer, which is how a heartbeat finds out.
 */
import { inspect } from 'node:util'
import type { Role } from '../bus/membership.js'
import type { Connection } from '../channel/connection.js'
import { RingbellError } from '../errors.js'
import type { StepDownOptions } from './options.js'

/** A request to a member. */
export interface ControlRequest {
  /**
   * What it asks for. `beat` asks as `status` does. `drain`: it steps down and does not contend any more. `socket`: it sends a listening
   * socket over the connection.
   */
  readonly method: 'status' | 'beat' | 'stepDown' | 'drain' | 'socket'
  /** For `stepDown` and `drain`: milliseconds that running calls have to end. */
  readonly grace?: number | undefined
  /** For `socket`: which one, as `sockets` of the member's metadata names it. */
  readonly address?: string | undefined
}

/** The answer to each of them. */
export interface MemberStatus {
  /** The name of its group. */
  readonly group: string
  /** Its process. */
  readonly pid: number
  /** Whether it is the primary. */
  readonly role: Role
  /** The epoch of its present term, or of its last one. 0: it had none. */
  readonly epoch: number
  /** `ready`, `stepping-down` or `draining`. */
  readonly state: string
  /** Milliseconds since the last beat of the work; 0 if the event loop is what beats. */
  readonly beatAge: number
}

/** What the control service needs of a member. */
interface Controlled {
  readonly group: string
  readonly role: Role
  readonly epoch: number
  readonly state: string
  readonly beatAge: number
  stepDown(options: StepDownOptions): Promise<unknown>
  drain(options: StepDownOptions): Promise<unknown>
  readonly sockets: { give(name: unknown, connection: Connection<unknown>): Promise<void> }
}

/** The name of the control service of a group's members. */
export function controlName(group: string): string {
  return `${group}.member`
}

/** The name of the claim whose holder alone opens sockets for a group. */
export function listenName(group: string): string {
  return `${group}.listen`
}

export async function answer(
  member: Controlled,
  request: unknown,
  connection: Connection<unknown>,
): Promise<MemberStatus> {
  const { method, grace, address } = (
    typeof request === 'object' && request !== null ? request : {}
  ) as Partial<ControlRequest>
  if (method === 'stepDown') await member.stepDown({ grace })
  else if (method === 'drain') await member.drain({ grace })
  else if (method === 'socket') await member.sockets.give(address, connection)
  else if (method !== 'status' && method !== 'beat')
    throw new RingbellError(
      'ERR_RINGBELL_NOT_FOUND',
      `A member has no method ${inspect(method)}; it has status, beat, stepDown, drain and socket.`,
    )
  const { group, role, epoch, state, beatAge } = member
  return { group, pid: process.pid, role, epoch, state, beatAge }
}
