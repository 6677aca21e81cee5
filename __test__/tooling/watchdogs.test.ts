/** A test or command that hangs is stopped and named; a slow one is not. These tests make their own projects and commands. */
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import test from 'ava'
import { avaOutcome } from '../../scripts/outcome.mjs'
import { run } from '../../scripts/project.mjs'
import { STAGES } from '../../scripts/stages.mjs'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const node = (code: string): string[] => [process.execPath, '-e', code]

test('a command that continues to write is not stopped, even if it takes long', async (t) => {
  const ticks =
    'let n = 0; const timer = setInterval(() => { console.log(n); if (++n === 40) clearInterval(timer) }, 100)'
  let code = 124
  // If the machine stands still for three seconds, one attempt may fail.
  for (let attempts = 0; attempts < 5 && code === 124; attempts++)
    code = await run(node(ticks), { output: () => {}, silence: 3000 })
  t.is(code, 0)
})

test('a command that writes nothing any more is stopped, with its children', async (t) => {
  let said = ''
  const output = (chunk: string): void => void (said += chunk)
  t.is(await run(['sh', '-c', 'echo begun; sleep 1000 & sleep 1000'], { output, silence: 500 }), 124)
  t.regex(said, /^begun\n\nsh was stopped: it said nothing for 0\.5 s\n$/)
})

test('a test that hangs is named, and counts as failed', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'ringbell-watchdog-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  mkdirSync(join(folder, 'node_modules'))
  symlinkSync(join(ROOT, 'node_modules/ava'), join(folder, 'node_modules/ava'))
  writeFileSync(
    join(folder, 'package.json'),
    '{ "type": "module", "ava": { "timeout": "3s", "workerThreads": false } }',
  )
  writeFileSync(
    join(folder, 'test.js'),
    `import test from 'ava'
test('it ends', (t) => t.pass())
test.skip('it is skipped', (t) => t.pass())
test('it waits for ever', async () => { await new Promise((done) => setTimeout(done, 1e9)) })
`,
  )
  const step = STAGES.find(({ name }) => name === 'node')
    ?.steps()
    .find(({ name }) => name === 'ava')
  let said = ''
  const code = await run(step?.command ?? [], {
    cwd: folder,
    env: { AVA_FORCE_CI: 'not-ci', FORCE_COLOR: '0' },
    output: (chunk) => (said += chunk),
  })
  t.deepEqual(avaOutcome(said, code), { passed: 1, failed: 1, skipped: 1 }, said)
  t.regex(said, /it waits for ever/)
})

test('steps that run tests have a watchdog, and no other step has one', (t) => {
  for (const { name: stage, steps } of STAGES) {
    for (const { name, command, hangs } of steps()) {
      const tests =
        command?.some((word) => word.includes('ava/')) === true ||
        (command?.includes('test') === true && !command.includes('--no-run'))
      t.is(hangs === true, tests, `${stage}: ${name}`)
    }
  }
})

test('every stage that runs tests in Rust compiles them first', (t) => {
  for (const { name, steps } of STAGES) {
    const commands = steps().map(({ command }) => command ?? [])
    const first = commands.findIndex((command) => command.includes('--no-fail-fast'))
    if (first < 0) continue
    const compiled = commands.findIndex((command) => command.includes('--no-run'))
    t.true(compiled >= 0 && compiled < first, name)
  }
})
