/**
 * Every method of the public API with a wrong value in every place: each argument, and each option of an argument. It is
 * refused with an error of the library, or accepted; the process lives, no wait hangs after the bus is closed, and the
 * witness goes on. The methods come from the declarations, so a new one needs an entry in fixtures/boundary/subjects.ts.
 * `npm test` takes every second place, `npm run soak` all.
 */
import test from 'ava'
import { CASES_PATIENCE_MS, problemsOf, shareOf } from '../helpers/boundary.js'
import { publicApi } from '../helpers/declarations.js'
import { rungs } from '../helpers/rungs.js'
import { casesOf } from '../fixtures/boundary/places.js'
import { METHODS } from '../fixtures/boundary/subjects.js'

const api = publicApi()

test('every method of the API is called', (t) => {
  const methods = [...api.classes].flatMap(([owner, members]) =>
    // A codec is the user's own; how the library calls it is in callbacks.test.ts.
    owner === 'Codec' ? [] : members.filter(({ kind }) => kind === 'method').map(({ name }) => `${owner}.${name}`),
  )
  t.deepEqual(methods.sort(), Object.keys(METHODS).sort())
})

test('wrong arguments and wrong options', async (t) => {
  t.timeout(CASES_PATIENCE_MS)
  const cases = casesOf(api).map((place, index) => `${place} / ${rungs[index % rungs.length]}`)
  const chosen = shareOf(cases, 4)
  t.log(`${chosen.length} of ${cases.length} places`)
  t.deepEqual(await problemsOf('arguments.ts', chosen), [])
})
