/** Completions are made from the table that parses the command line. Each shell that is there is asked what it offers. */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, delimiter, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import test from 'ava'
import { onPath } from '../../scripts/project.mjs'
import { createProgram } from '../../src/cli/program.js'
import { MAIN, scene, type Scene } from '../helpers/cli-process.js'

const ZSH = fileURLToPath(new URL('../fixtures/complete.zsh', import.meta.url))

async function scriptOf(stage: Scene, shell: string): Promise<string> {
  const { code, stdout, stderr } = await stage.run(['completion', shell])
  if (code !== 0) throw new Error(stderr)
  return stdout.toString()
}

/** What a shell offers for the last of these words, without descriptions and folders. The words before it are complete. */
const OFFERS: Record<string, (script: string, words: readonly string[], env: NodeJS.ProcessEnv) => string[]> = {
  bash(script, words, env) {
    const ask = `${script}\nCOMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _ringbell; printf '%s\\n' "\${COMPREPLY[@]}"`
    return asked('bash', ['-c', ask, 'bash', ...words], env)
  },
  zsh(script, words, env) {
    const file = join(env['HOME'] ?? '', '_ringbell')
    writeFileSync(file, script)
    return asked('zsh', ['-f', ZSH, file, words.join(' ')], env)
  },
  fish: (script, words, env) => asked('fish', ['-c', `${script}\ncomplete -C '${words.join(' ')}'`], env),
}

function asked(shell: string, args: readonly string[], env: NodeJS.ProcessEnv): string[] {
  const { status, stdout, stderr } = spawnSync(shell, args, { encoding: 'utf8', env })
  if (status !== 0 || stderr !== '') throw new Error(`${shell} ended with ${status}: ${stderr}`)
  const lines = stdout.split('\n').filter(Boolean)
  return [...new Set(lines.map((line) => basename(line.replace(/\t.*/, '').trim())))].sort()
}

for (const [shell, offers] of Object.entries(OFFERS))
  test(`${shell} offers what may come next`, async (t) => {
    if (!onPath(shell)) {
      t.pass()
      return console.error(`*** NOT TESTED, because ${shell} is missing: what it offers ***`)
    }
    const stage = scene(t)
    const script = await scriptOf(stage, shell)
    const tools = mkdtempSync(join(tmpdir(), 'ringbell-completion-'))
    t.teardown(() => rmSync(tools, { recursive: true, force: true }))
    writeFileSync(join(tools, 'picture.png'), '')
    writeFileSync(join(tools, 'ringbell'), `#!/bin/sh\nexec '${process.execPath}' '${MAIN}' "$@"\n`, { mode: 0o755 })
    const path = [tools, process.env['PATH']].join(delimiter)
    const env = { ...process.env, PATH: path, HOME: tools, IPC_BUS_DIR: stage.bus }
    stage.start(['pub', 'sensors.cpu'])
    await stage.until<unknown[]>(['ls'], (found) => found.length === 1)
    const offered = (...words: string[]): string[] => offers(script, ['ringbell', ...words], env)
    t.deepEqual(offered('s'), ['sem', 'serve', 'state', 'stats', 'stop', 'sub'])
    t.deepEqual(offered('--domain', 'x', 'wor'), ['work'])
    t.deepEqual(offered('pub', 'topic', '--over'), ['--overflow'])
    t.deepEqual(offered('pub', '--overflow', ''), ['block', 'drop-newest', 'drop-oldest'])
    t.deepEqual(offered('sub', '--ack', 'd'), ['deferred'])
    t.deepEqual(offered('pub', '--file', join(tools, 'pict')), ['picture.png'])
    t.deepEqual(offered('ls', '--js'), ['--json'])
    t.deepEqual(offered('completion', ''), ['bash', 'fish', 'zsh'])
    t.deepEqual(offered('help', 'doc'), ['doctor'])
    t.deepEqual(offered('sub', ''), ['sensors.cpu'])
    t.deepEqual(offered('sub', '--count', '5', 'sens'), ['sensors.cpu'])
    // zsh offers options where there is nothing else. fish does not know the position of a word.
    const more = offered('sub', 'sensors.cpu', '').filter((one) => !one.startsWith('-'))
    t.deepEqual(more, shell === 'fish' ? ['sensors.cpu'] : [])
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
    const file = join(stage.bus, 'script')
    writeFileSync(file, script)
    const { status, stderr } = spawnSync(shell, ['-n', file], { encoding: 'utf8' })
    t.is(status, 0, stderr)
  })
