// What has to be there before anything is measured: the rivals from npm, the Rust programs, the package
// itself. What cannot be had is left out and named; it never stops the rest.

import { execFileSync } from 'node:child_process'
import { existsSync, mkdtempSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { pathToFileURL } from 'node:url'
import { crates } from './machine.mjs'

/** This tree. */
const HERE = path.resolve(import.meta.dirname, '../..')

const packages = {
  zeromq: 'zeromq',
  undici: 'undici',
  grpc: '@grpc/grpc-js',
  bun: 'bun',
  lmdb: 'lmdb',
  lockfile: 'proper-lockfile',
  pm2: 'pm2',
}

/** Bun, which runs the same endpoints as Node. */
export const bun = (benches) => path.join(benches, 'node_modules/.bin/bun')

/**
 * Gives { has, benches, programs, scratch, missing: […] }. `has` says what is there: the packages and crates by name, `floors`,
 * `ringbell` and `ringbellRust`.
 * `only` is `rivals` or `ringbell`; `root` is the tree whose library and programs are measured.
 */
export async function prepare({ say, only, root = HERE }) {
  const benches = path.join(root, 'benches')
  const missing = []
  const attempt = (what, action) => {
    try {
      action()
      return true
    } catch (error) {
      const reason = (error.stderr?.toString().trim() || error.message).split('\n').slice(-3).join(' ')
      missing.push({ what, reason })
      say(`left out: ${what} (${reason})`)
      return false
    }
  }
  const quietly = { cwd: benches, stdio: ['ignore', 'ignore', 'pipe'] }
  const has = {}

  attempt('pinning (taskset)', () => execFileSync('taskset', ['-c', '0,1', 'true'], quietly))
  const there = (name) => existsSync(path.join(benches, 'node_modules', name))
  attempt('the rivals from npm', () => {
    if (only === 'ringbell' || Object.values(packages).every(there)) return
    say('installing the rivals from npm …')
    execFileSync('npm', ['ci', '--no-audit', '--no-fund'], quietly)
  })
  for (const [rival, name] of Object.entries(packages)) has[rival] = there(name)
  // Where npm runs no install scripts, its file is a text that says so.
  has.bun &&= attempt('Bun', () => execFileSync(bun(benches), ['--version'], quietly))
  if (only !== 'ringbell')
    has.redis = attempt('Redis (Debian: redis-server)', () => {
      execFileSync('redis-server', ['--version'], quietly)
      // It makes the server end with the process that started it.
      execFileSync('setpriv', ['--pdeathsig', 'KILL', 'true'], quietly)
    })
  has.nats = attempt('NATS (Debian: nats-server)', () => execFileSync('nats-server', ['--version'], quietly))

  const rust = path.join(benches, 'rust')
  const target = (root === HERE && process.env.CARGO_TARGET_DIR) || path.join(rust, 'target')
  const build = (features) => {
    const words = ['build', '--release', '--quiet', '--target-dir', target, '--no-default-features']
    execFileSync('cargo', [...words, '--features', features], { ...quietly, cwd: rust })
  }
  say('building the Rust programs …')
  const wanted = [...(only === 'ringbell' ? [] : crates), ...(only === 'rivals' ? [] : ['ringbell'])]
  const built = []
  try {
    build(wanted.join())
    built.push(...wanted, 'floors')
  } catch {
    // Something does not build: find out what, and go on with the rest.
    if (attempt('floors in Rust', () => build(''))) built.push('floors')
    for (const feature of built.length ? wanted : []) {
      if (attempt(`${feature} in Rust`, () => build(feature))) built.push(feature)
    }
  }
  has.floors = built.includes('floors')
  for (const crate of crates) has[crate] = built.includes(crate)
  has.ringbellRust = built.includes('ringbell')

  // tmpfs where there is one: bus directories, sockets and floors' memory live here.
  const scratch = mkdtempSync(path.join(existsSync('/dev/shm') ? '/dev/shm' : os.tmpdir(), 'ringbell-bench-'))
  has.ringbell = false
  if (only !== 'rivals') {
    try {
      const { Bus } = await import(pathToFileURL(path.join(root, 'index.js')).href)
      const bus = await Bus.open({ path: path.join(scratch, 'probe') })
      await bus.close()
      has.ringbell = true
    } catch (error) {
      missing.push({ what: 'ringbell for Node', reason: error.message })
      say(`left out: ringbell for Node, not built? (${error.message.split('\n')[0]})`)
    }
  }
  return { has, benches, programs: path.join(target, 'release'), scratch, missing }
}
