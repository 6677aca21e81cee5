/** The names of control services of a group. */

/** That of members; `bus.join` announces it. */
export const memberName = (service: string): string => `${service}.member`

/** That of managers. */
export const managerName = (service: string): string => `${service}.manager`
