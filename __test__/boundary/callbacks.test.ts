/**
 * Every function that a user passes in, and every listener, behaves in every hostile way of fixtures/boundary/hostile.ts,
 * on every rung. The list of functions comes from the declarations, so a new one needs a driver. `npm test` takes every
 * `SHARE`th case, `npm run soak` all.
 */
import test from 'ava'
import { CASES_PATIENCE_MS, problemsOf, shareOf } from '../helpers/boundary.js'
import { publicApi } from '../helpers/declarations.js'
import { rungs } from '../helpers/rungs.js'
import { CALLBACKS, EVENTS, NEVER_CALLED, NOT_PROVOKED } from '../fixtures/boundary/drivers.js'
import { BEHAVIOURS } from '../fixtures/boundary/hostile.js'

const api = publicApi()

test('every callback and every event of the API has a driver', (t) => {
  t.deepEqual(
    api.callbacks.filter((path) => !NEVER_CALLED.has(path)),
    Object.keys(CALLBACKS).sort(),
  )
  const events = [...api.events].flatMap(([owner, names]) => names.map((name) => `${owner} ${name}`))
  t.deepEqual(events.filter((event) => !NOT_PROVOKED.has(event)).sort(), Object.keys(EVENTS).sort())
})

test('hostile callbacks harm nobody else', async (t) => {
  t.timeout(CASES_PATIENCE_MS)
  const paths = [...Object.keys(CALLBACKS), ...Object.keys(EVENTS)]
  const cases = paths.flatMap((path) =>
    Object.keys(BEHAVIOURS).flatMap((how) => rungs.map((rung) => `${path} / ${how} / ${rung}`)),
  )
  const chosen = shareOf(cases)
  t.log(`${chosen.length} of ${cases.length} cases`)
  t.deepEqual(await problemsOf('callbacks.ts', chosen), [])
})
