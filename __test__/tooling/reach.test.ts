/** The rows of `npm run reach`, without running them: they have names of their own, and CI asks for rows that exist. */
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import test from 'ava'
import { ROWS } from '../../scripts/reach/rows.mjs'

const list = (only: string): number | null =>
  spawnSync(process.execPath, ['scripts/reach/reach.mjs', '--list', '--only', only]).status

test('no two rows have one name, and no row has the name of a group', (t) => {
  const names = ROWS.map(({ name }) => name)
  const groups = new Set(ROWS.map(({ group }) => group))
  t.is(new Set(names).size, names.length)
  t.deepEqual(
    names.filter((name) => groups.has(name)),
    [],
  )
})

test('CI and the page on platforms ask for rows that exist', (t) => {
  const texts = ['.github/workflows/ci.yml', 'docs/platform.md'].map((path) => readFileSync(path, 'utf8'))
  const asked = texts.flatMap((text) => [...text.matchAll(/reach(?:\.mjs)? [^\n|`]*--only ([\w.,-]+)/g)])
  t.true(asked.length > 5)
  for (const [, only = ''] of asked) t.is(list(only), 0, only)
})

test('a row that does not exist is an error', (t) => {
  t.is(list('node-19'), 1)
})
