/** The man page is made from the table that parses the command line, and is well-formed. */
import { spawnSync } from 'node:child_process'
import test from 'ava'
import { manPage } from '../../scripts/man.mjs'
import { onPath } from '../../scripts/project.mjs'
import { createProgram } from '../../src/cli/program.js'

test('it has every command and every option', async (t) => {
  const program = createProgram()
  const page = (await manPage()).replaceAll('\\-', '-')
  for (const command of [program, ...program.commands]) {
    if (command !== program) t.true(page.includes(`.SS ${command.name()} `), command.name())
    for (const { long, hidden } of command.options)
      if (long !== undefined && !hidden) t.true(page.includes(long), `${command.name()} ${long}`)
  }
  t.true(page.includes('.SH EXIT STATUS'))
})

/** A page made by a build has no date, so that two builds are the same. */
const NO_DATE = /^mandoc: \S+ WARNING: missing date, using "": TH\n/

for (const [command = '', ...args] of [
  ['groff', '-man', '-Tutf8', '-ww', '-z'],
  ['mandoc', '-T', 'lint', '-W', 'warning'],
])
  test(`${command} reports no error`, async (t) => {
    if (!onPath(command)) {
      console.error(`*** NOT TESTED, because ${command} is missing: the form of the man page ***`)
      t.pass()
      return
    }
    const input = await manPage()
    const { stdout, stderr } = spawnSync(command, args, { input, encoding: 'utf8' })
    t.is((stdout + stderr).replace(NO_DATE, ''), '')
  })
