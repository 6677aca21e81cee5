/** docs/guide/errors.md has a section for each code of the library, in the library's order, and for no other. */
import { readFileSync } from 'node:fs'
import test from 'ava'
import { errorCodes } from 'ringbell'

test('the page of error codes lists exactly the codes of the library', (t) => {
  const page = readFileSync(new URL('../../docs/guide/errors.md', import.meta.url), 'utf8')
  const listed = [...page.matchAll(/^## (ERR_\w+)$/gm)].map(([, code]) => code)
  t.deepEqual(listed, [...errorCodes])
})
