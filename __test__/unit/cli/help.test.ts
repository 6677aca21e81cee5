/** The help of the program and of every command: everything is in it, wrapped once, at the width of the terminal. */
import test from 'ava'
import type { Command } from 'commander'
import { createProgram } from '../../../src/cli/program.js'

/** The width without a terminal. */
const WIDTH = 80

function helpOf(command: Command): string {
  let text = ''
  command.configureOutput({ writeOut: (piece) => (text += piece), getOutHelpWidth: () => WIDTH })
  command.outputHelp()
  return text
}

test('every command is in the help of the program, and has a help of its own', (t) => {
  const program = createProgram()
  const all = helpOf(program)
  t.true(program.commands.length > 10)
  for (const command of program.commands) {
    t.true(all.includes(`  ${command.name()} `), command.name())
    const text = helpOf(command)
    for (const option of ['--bus', '--domain', '--json']) t.true(text.includes(option), command.name())
    t.not(command.summary(), '', command.name())
    t.not(command.description(), '', command.name())
  }
})

test('help is wrapped once', (t) => {
  const program = createProgram()
  for (const command of [program, ...program.commands]) {
    const text = helpOf(command)
    t.deepEqual(
      text.split('\n').filter((line) => line.length > WIDTH),
      [],
    )
    // The description is the second paragraph: each of its lines is as full as it can be.
    const lines = text.split('\n\n')[1]?.split('\n') ?? []
    const short = lines.slice(0, -1).filter((line, at) => {
      const next = /^\S+/.exec(lines[at + 1] ?? '')?.[0] ?? ''
      return line.length + 1 + next.length <= WIDTH
    })
    t.deepEqual(short, [], command.name())
  }
})

test('sizes and bandwidths have the same units', async (t) => {
  const { bandwidth, parseSize, size } = await import('../../../src/cli/figures.js')
  t.is(size(parseSize('64K')), '64 KiB')
  t.is(bandwidth(parseSize('64K')), '64 KiB/s')
})
