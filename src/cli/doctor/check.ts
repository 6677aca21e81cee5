/** One finding of the doctor, in the core's form (`checks` of `bus.doctor()`). */
export interface Check {
  check: string
  status: 'ok' | 'warn' | 'fail'
  detail: string
  /** What to do about it; empty when there is nothing to do. */
  advice: string
}

export function worst(checks: readonly Check[]): Check['status'] {
  const has = (status: Check['status']): boolean => checks.some((one) => one.status === status)
  return has('fail') ? 'fail' : has('warn') ? 'warn' : 'ok'
}
