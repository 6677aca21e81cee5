/** The stages of `npm test`. They deny system calls by name, because numbers differ between processors. */
import { existsSync } from 'node:fs'
import test from 'ava'
import { phasesOf, runInLanes } from '../../scripts/lanes.mjs'
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

test('the files of Rust tests that a step names exist', (t) => {
  const words = STAGES.flatMap(({ steps }) => steps()).flatMap(({ command = [] }) => command)
  const files = words.filter((word) => word.endsWith('::')).map((word) => word.slice(0, -2))
  t.true(files.includes('topic_stream'))
  for (const file of files) t.true(existsSync(`crates/core/tests/it/${file}.rs`), file)
})

const STEPS = [
  { name: 'first' },
  { name: 'a1', lane: 'a' },
  { name: 'b1', lane: 'b' },
  { name: 'a2', lane: 'a' },
  { name: 'last' },
]

test('steps without a lane run alone, and lanes side by side', (t) => {
  const names = phasesOf(STEPS).map((lanes) => lanes.map((lane) => lane.map(({ name }) => name).join(' ')))
  t.deepEqual(names, [['first'], ['a1 a2', 'b1'], ['last']])
  for (const { name, steps } of STAGES) t.is(phasesOf(steps()).flat(2).length, steps().length, name)
})

test('a lane waits for its own steps only, and what follows waits for all lanes', async (t) => {
  const said: string[] = []
  let resolve = (): void => {}
  const promise = new Promise<void>((done) => (resolve = done))
  await runInLanes(STEPS, async ({ name }, alone) => {
    said.push(`${name} ${alone ? 'alone' : 'beside'}`)
    if (name === 'b1') await promise
    if (name === 'a2') resolve()
    said.push(`${name} ended`)
  })
  const order =
    'first alone, first ended, a1 beside, a1 ended, b1 beside, a2 beside, a2 ended, b1 ended, last alone, last ended'
  t.is(said.join(', '), order)
})
