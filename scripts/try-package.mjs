// @ts-check
/**
 * Installs the packed tarballs into an empty folder, as a user does, and uses them there: two processes and a topic,
 * then the CLI. There is no Rust on the PATH, and no registry is used, so everything must come from the tarballs.
 */
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { isMain, must, npm, onPath, platform, readJson, ROOT, script, SILENCE, TARGET } from './project.mjs'

/** @param {{ root: string, binaries: Record<string, string> }} tarballs @param {(chunk: string) => void} output */
export async function tryPackage(tarballs, output) {
  const binary = tarballs.binaries[platform()]
  if (binary === undefined) throw new Error(`no tarball for ${platform()}`)
  const home = mkdtempSync(join(tmpdir(), 'ringbell-package-'))
  const io = { output }
  try {
    const tools = join(home, 'bin')
    mkdirSync(tools)
    symlinkSync(process.execPath, join(tools, 'node'))
    symlinkSync('/bin/sh', join(tools, 'sh'))
    if (onPath('cargo', tools)) throw new Error('the test folder has a cargo')
    const env = {
      PATH: tools,
      IPC_BUS_DIR: join(home, 'bus'),
      npm_config_offline: 'true',
      NODE_PATH: undefined,
      NODE_OPTIONS: undefined,
    }

    const { name, version, dependencies: needed } = readJson('package.json')
    /** @type {Record<string, string>} */
    const dependencies = { [name]: `file:${tarballs.root}`, [`${name}-${platform()}`]: `file:${binary}` }
    for (const one of Object.keys(needed)) {
      const packed = ['pack', join(ROOT, 'node_modules', one), '--loglevel=error', '--pack-destination', home]
      await must(npm(packed), { cwd: home, ...io })
      const file = `${one}-${readJson(`node_modules/${one}/package.json`).version}.tgz`
      dependencies[one] = `file:${join(home, file)}`
    }
    const user = join(home, 'user')
    mkdirSync(user)
    writeFileSync(
      join(user, 'package.json'),
      JSON.stringify({ name: 'user', private: true, type: 'module', dependencies }),
    )
    cpSync(join(ROOT, '__test__/fixtures/package-user.mjs'), join(user, 'main.mjs'))
    const install = [
      'install',
      '--offline',
      '--no-audit',
      '--no-fund',
      '--loglevel=error',
      '--cache',
      join(home, 'cache'),
    ]
    await must(npm(install), { cwd: user, env, ...io })
    await must([process.execPath, 'main.mjs'], { cwd: user, env, silence: SILENCE, ...io })
    const cli = join(user, 'node_modules/.bin/ringbell')
    let said = ''
    await must([cli, '--version'], { cwd: user, env, silence: SILENCE, output: (chunk) => (said += chunk) })
    if (said.trim() !== version) throw new Error(`ringbell --version said ${JSON.stringify(said)}, not ${version}`)
    await must([cli, 'doctor', '--json'], { cwd: user, env, silence: SILENCE, ...io })
  } finally {
    rmSync(home, { recursive: true, force: true })
  }
}

if (isMain(import.meta.url)) {
  await script(async () => {
    const { name, version } = readJson('package.json')
    const folder = join(TARGET, 'tarballs')
    const binary = join(folder, `${name}-${platform()}-${version}.tgz`)
    await tryPackage(
      { root: join(folder, `${name}-${version}.tgz`), binaries: { [platform()]: binary } },
      (chunk) => void process.stdout.write(chunk),
    )
    process.stdout.write('the packed tarballs work in an empty folder\n')
  })
}
