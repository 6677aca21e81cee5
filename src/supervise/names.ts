/** The names of control services of a group, and the variable that names the manager to what it starts. */

/** That of members; `bus.join` announces it. */
export const memberName = (service: string): string => `${service}.member`

/** The variable by which members learn their manager and place, for their metadata (src/group/options.ts). */
export const MEMBER_VARIABLE = 'RINGBELL_MEMBER'

/** That of managers. */
export const managerName = (service: string): string => `${service}.manager`
