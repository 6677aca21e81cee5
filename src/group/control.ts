/**
 * The control service of a member, `<group>.member`: what managers ask of it. Requests and answers are JSON. The answer comes from the
 * member's own event loop, so a process that is stopped or hangs does not answer, which is how a heartbeat finds out.
 */
import { inspect } from 'node:util'
import type { Role } from '../bus/membership.js'
import { RingbellError } from '../errors.js'
import type { StepDownOptions } from './options.js'

/** A request to a member. */
export interface ControlRequest {
  readonly method: 'status' | 'beat' | 'stepDown' | 'drain'
  /** For `stepDown` and `drain`: milliseconds that running calls have to end. */
  readonly grace?: number | undefined
}

/** The answer to each of them. */
export interface MemberStatus {
  readonly group: string
  readonly pid: number
  readonly role: Role
  readonly epoch: number
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
}

/** The name of the control service of a group's members. */
export function controlName(group: string): string {
  return `${group}.member`
}

export async function answer(member: Controlled, request: unknown): Promise<MemberStatus> {
  const { method, grace } = (typeof request === 'object' && request !== null ? request : {}) as Partial<ControlRequest>
  if (method === 'stepDown') await member.stepDown({ grace })
  else if (method === 'drain') await member.drain({ grace })
  else if (method !== 'status' && method !== 'beat')
    throw new RingbellError(
      'ERR_RINGBELL_NOT_FOUND',
      `A member has no method ${inspect(method)}; it has status, beat, stepDown and drain.`,
    )
  const { group, role, epoch, state, beatAge } = member
  return { group, pid: process.pid, role, epoch, state, beatAge }
}
