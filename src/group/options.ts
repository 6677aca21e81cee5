/** The options of members of a service group. All of them are checked here. */
import type { Access } from '../bus/options.js'
import { anything, check, duration, LONGEST_MS, oneOf, plainObject, type Rule, type Rules } from '../check.js'
import type { Term } from './term.js'

/** How a member takes part in its group. */
export interface JoinOptions {
  /**
   * More fields for the metadata of the member's record, beside `group`, `role`, `epoch` and `state`. Those of the environment
   * variable `RINGBELL_MEMBER`, a JSON object that a manager may set, come first.
   */
  metadata?: Record<string, unknown> | undefined
  /**
   * What answers a heartbeat. `'loop'` (default): the event loop, so a process that is stopped or hangs does not answer. `'manual'`: the
   * answer says how long ago the program called `beat()`.
   */
  heartbeat?: 'loop' | 'manual' | undefined
  /** Milliseconds that running calls have to end at a step-down, and `onStepDown`; 3,000 by default. */
  grace?: number | undefined
  /**
   * Is called when a term ends by a step-down, after the servers of the member have begun to refuse. The next primary cannot act before
   * its promise has resolved, or the grace is over.
   */
  onStepDown?: ((term: Term) => void | Promise<void>) | undefined
  /** Let other users call the member's control service; by default only our own and root may. */
  access?: Access | undefined
}

/** How long a step-down may take. */
export interface StepDownOptions {
  /** Milliseconds that running calls have to end; by default those that the member was joined with. */
  grace?: number | undefined
}

export const DEFAULT_GRACE = 3000
/** The variable by which a manager adds to the metadata of the members that it starts. */
export const ENVIRONMENT = 'RINGBELL_MEMBER'
/** The fields of a member's metadata that it keeps itself. */
export const OWN_FIELDS = ['group', 'role', 'epoch', 'state', 'heartbeat'] as const

const callback: Rule = (value) => (typeof value === 'function' ? undefined : 'must be a function')
const grace = duration(0, LONGEST_MS, 'milliseconds')
const metadata: Rule = (value) => {
  const broken = plainObject(value)
  if (broken !== undefined) return broken
  const own = OWN_FIELDS.find((name) => Object.hasOwn(value as object, name))
  return own === undefined ? undefined : `must not have the field ${own}, which the member keeps itself`
}
const JOIN: Rules = {
  metadata,
  heartbeat: oneOf('loop', 'manual'),
  grace,
  onStepDown: callback,
  // The core checks it with the record.
  access: anything,
}
const STEP_DOWN: Rules = { grace }

export function checkJoin(options: object): void {
  check(options, JOIN)
}

export function checkStepDown(options: object): void {
  check(options, STEP_DOWN)
}
