/** The overall result of the checks of the doctor. */
import type { Check, CheckStatus } from '../../index.js'

export function worst(checks: readonly Check[]): CheckStatus {
  const has = (status: CheckStatus): boolean => checks.some((one) => one.status === status)
  return has('fail') ? 'fail' : has('warn') ? 'warn' : 'ok'
}
