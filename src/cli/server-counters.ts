/** The counters of a server as lines of a table, for `stats` and `inspect`. */
import type { ServerStats } from '../index.js'
import { count, counted } from './figures.js'

export function countersOfServer({
  connections,
  accepted,
  requests,
  replies,
  errors,
  cancelled,
  inHand,
}: ServerStats): [string, string][] {
  return [
    ['connections', `${count(connections)} now, ${count(accepted)} in total`],
    ['requests', `${counted(requests, 'request')}, ${count(inHand)} in hand`],
    [
      'answered',
      `${counted(replies, 'reply', 'replies')}, ${counted(errors, 'error')}, ${count(cancelled)} given up by the caller`,
    ],
  ]
}
