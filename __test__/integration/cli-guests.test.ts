/** The command line of another user: what it may not do is said at once, by the name of the directory, with what it can do. */
import { chmodSync, chownSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { ExecutionContext } from 'ava'
import { asRoot, GUEST } from '../helpers/as-root.js'
import { Child, type End } from '../helpers/child.js'
import { place } from '../helpers/place.js'

const CLI = fileURLToPath(new URL('../fixtures/cli.mjs', import.meta.url))

function asGuest(t: ExecutionContext, bus: string, args: readonly string[]): Promise<End> {
  const env = { NODE_OPTIONS: '', IPC_BUS_DIR: bus, RINGBELL_TEST_UID: String(GUEST) }
  const child = new Child(process.execPath, [CLI, ...args], { env })
  t.teardown(() => child.kill())
  child.process.stdin.end()
  return child.end
}

asRoot('a call that is refused ends at once, and says why', async (t) => {
  const at = place(t)
  chmodSync(at.path, 0o755)
  await (await at.bus()).serve('private', (request) => request)
  for (const more of [[], ['--stream']]) {
    // With its whole time limit it would outlive this test.
    const { code, stderr } = await asGuest(t, at.path, ['call', 'private', 'x', '-t', '1h', ...more])
    t.is(code, 1)
    t.regex(stderr, /^ringbell: .*private.*\(ERR_RINGBELL_ACQUIRE\)\n$/)
  }
})

asRoot("the doctor of a guest says what is possible in another user's directory", async (t) => {
  const at = place(t)
  chmodSync(at.path, 0o755)
  const { stdout, stderr } = await asGuest(t, at.path, ['doctor'])
  const text = stdout.toString()
  t.regex(text, /! {2}sockets +not tried in another user's directory/)
  t.regex(text, /! {2}announcing .*can announce nothing here, .*Cannot create bus directory .* may not write to/)
  t.regex(text, /✓ {2}access +others can enter, and announce nothing/)
  t.regex(text, /[✓!✗] {2}try-/)
  t.is(stderr, '')
})

asRoot('the doctor checks the machine although the bus cannot be opened', async (t) => {
  const at = place(t)
  chmodSync(at.path, 0o700)
  const { code, stdout } = await asGuest(t, at.path, ['doctor'])
  const text = stdout.toString()
  t.is(code, 1)
  t.regex(text, /✗ {2}bus .*it belongs to uid 0, which does not let this user in; .*\(ERR_RINGBELL_SYSTEM\)/)
  t.regex(text, /[✓!✗] {2}kernel /)
  t.notRegex(text, / leftovers /)
})

asRoot('a directory that cannot be used is told with the reason, by its name', async (t) => {
  const { path } = place(t, { untidy: true })
  chmodSync(path, 0o755)
  const made = (name: string, owner: number, mode: number): string => {
    const folder = join(path, name)
    mkdirSync(folder)
    chownSync(folder, owner, owner)
    chmodSync(folder, mode)
    return folder
  }
  const own = made('own', GUEST, 0)
  const closed = made('closed', 0, 0o700)
  const wrong: [command: string[], folder: string, reason: string][] = [
    [['ls'], own, `it is this user's own, but its mode 000 does not let it in; chmod 700 it`],
    [['ls'], closed, `it belongs to uid 0, which does not let this user in;`],
    [['ls'], join(closed, 'inner'), `${closed} does not let this user through`],
    [['pub', 'x', 'y'], join(path, 'new'), `this user may not write to ${path};`],
    [['pub', 'x', 'y'], join(path, 'no', 'bus'), `${path}/no does not exist; make that first`],
  ]
  for (const [command, folder, reason] of wrong) {
    const { code, stderr } = await asGuest(t, path, [...command, '--bus', folder])
    t.is(code, 1, stderr)
    t.true(stderr.includes(` bus directory ${folder}: ${reason}`), stderr)
  }
})
