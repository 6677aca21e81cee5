/** The counters of a server as `stats` and `inspect` show them. */
import test from 'ava'
import type { ServerStats } from 'ringbell'
import { countersOfServer } from '../../../src/cli/server-counters.js'

const stats: ServerStats = {
  connections: 1,
  accepted: 2,
  requests: 12,
  replies: 9,
  errors: 0,
  cancelled: 3,
  inHand: 1,
  abandoned: 2,
  core: {},
}

test('handlers that nobody waits for are shown, if there are any', (t) => {
  const requests = (of: ServerStats): string | undefined => new Map(countersOfServer(of)).get('requests')
  t.is(requests(stats), '12 requests, 1 in hand, 2 abandoned')
  t.is(requests({ ...stats, abandoned: 0 }), '12 requests, 1 in hand')
})
