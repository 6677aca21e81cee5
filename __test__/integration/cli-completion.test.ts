/** Completions are made from the table that parses the command line. In bash they are run; of the other shells the script is checked. */
import { spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { onPath } from '../../scripts/project.mjs'
import { createProgram } from '../../src/cli/program.js'
import { MAIN, scene, type Scene } from '../helpers/cli-process.js'

async function scriptOf(stage: Scene, shell: string): Promise<string> {
  const { code, stdout, stderr } = await stage.run(['completion', shell])
  if (code !== 0) throw new Error(stderr)
  return stdout.toString()
}

test('bash offers what may come next', async (t) => {
  const stage = scene(t)
  const script = await scriptOf(stage, 'bash')
  writeFileSync(join(stage.bus, 'picture.png'), '')
  stage.start(['pub', 'sensors.cpu'])
  await stage.until<unknown[]>(['ls'], (found) => found.length === 1)
  const offered = (...words: string[]): string[] => {
    const ask = `${script}
      ringbell() { '${process.execPath}' '${MAIN}' "$@"; }
      COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _ringbell; printf '%s\\n' "\${COMPREPLY[@]}"`
    const { stdout, stderr } = spawnSync('bash', ['-c', ask, 'bash', 'ringbell', ...words], {
      encoding: 'utf8',
      env: { ...process.env, IPC_BUS_DIR: stage.bus },
    })
    t.is(stderr, '')
    return stdout.split('\n').filter(Boolean)
  }
  t.deepEqual(offered('s'), ['sub', 'serve', 'stats'])
  t.deepEqual(offered('--domain', 'x', 'wor'), ['work'])
  t.deepEqual(offered('pub', 'topic', '--over'), ['--overflow'])
  t.deepEqual(offered('pub', '--overflow', ''), ['block', 'drop-oldest', 'drop-newest'])
  t.deepEqual(offered('sub', '--ack', 'd'), ['deferred'])
  t.deepEqual(offered('pub', '--file', join(stage.bus, 'pict')), [join(stage.bus, 'picture.png')])
  t.deepEqual(offered('ls', '--js'), ['--json'])
  t.deepEqual(offered('completion', ''), ['bash', 'zsh', 'fish'])
  t.deepEqual(offered('help', 'doc'), ['doctor'])
  t.deepEqual(offered('sub', ''), ['sensors.cpu'])
  t.deepEqual(offered('sub', '--count', '5', 'sens'), ['sensors.cpu'])
  t.deepEqual(offered('sub', 'sensors.cpu', ''), [])
})

for (const shell of ['bash', 'zsh', 'fish'])
  test(`${shell} knows every command and option, and its syntax is right`, async (t) => {
    const stage = scene(t)
    const script = await scriptOf(stage, shell)
    const program = createProgram()
    for (const command of [program, ...program.commands]) {
      t.true(script.includes(command.name()), command.name())
      for (const { long, hidden } of command.options)
        if (long !== undefined && !hidden)
          t.true(script.includes(shell === 'fish' ? `-l ${long.slice(2)}` : long), `${command.name()} ${long}`)
    }
    if (!onPath(shell)) return console.error(`*** NOT TESTED, because ${shell} is missing: its syntax ***`)
    const { status, stderr } = spawnSync(shell, ['-n'], { input: script, encoding: 'utf8' })
    t.is(status, 0, stderr)
  })
