/** Lines that are drawn in place: they fit the terminal, if that has a size. */
import { stripVTControlCharacters } from 'node:util'
import test from 'ava'
import { LiveBlock } from '../../../src/cli/live-block.js'

function drawn(columns: number, rows: number): string[] {
  let text = ''
  const terminal = { columns, rows, write: (more: string) => (text += more) }
  new LiveBlock(terminal as unknown as NodeJS.WriteStream).draw(['first line', 'second', 'third'])
  return stripVTControlCharacters(text).trim().split('\n')
}

test('lines are cut to the terminal', (t) => {
  t.deepEqual(drawn(5, 3), ['first', 'secon'])
})

test('a terminal that says no size shows all', (t) => {
  t.deepEqual(drawn(0, 0), ['first line', 'second', 'third'])
})
