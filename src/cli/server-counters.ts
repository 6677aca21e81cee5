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
  abandoned,
}: ServerStats): [string, string][] {
  const alone = abandoned > 0 ? `, ${count(abandoned)} abandoned` : ''
  return [
    ['connections', `${count(connections)} now, ${count(accepted)} in total`],
    ['requests', `${counted(requests, 'request')}, ${count(inHand)} in hand${alone}`],
    [
      'answered',
      `${counted(replies, 'reply', 'replies')}, ${counted(errors, 'error')}, ${count(cancelled)} given up by the caller`,
    ],
  ]
}
