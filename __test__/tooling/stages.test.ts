/** The stages of `npm test`. They deny system calls by name, because numbers differ between processors. */
import test from 'ava'
import { STAGES } from '../../scripts/stages.mjs'

test('the tables of oldsys name system calls and errnos', (t) => {
  const steps = STAGES.flatMap(({ steps }) => steps())
  const tables = steps.flatMap(({ command = [] }) =>
    command[0]?.endsWith('/oldsys') === true ? [command[1] ?? ''] : [],
  )
  t.true(tables.includes('memfd_create=EPERM'))
  for (const table of tables) t.regex(table, /^(5\.4|docker|docker-strict|[a-z]\w+=E[A-Z]+)$/)
})

test('tests know in which step no memory can be shared', (t) => {
  const steps = STAGES.flatMap(({ steps }) => steps())
  for (const { command = [], env } of steps)
    if (command[0]?.endsWith('/oldsys') === true) t.is(env?.['RINGBELL_TEST_SYSCALLS'], command[1])
})
