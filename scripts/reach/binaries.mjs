// @ts-check
/**
 * Builds the binaries of the four machines on one of them, into target/reach/binaries. Zig (from PyPI) is the linker: it
 * brings the C libraries of all of them, glibc 2.31 and musl. Rust's standard library is the one that rustup has installed
 * for that machine. If there is none, Debian's Rust builds it from source. `binaries.mjs [NAME …]` builds these, or all; `npm run
 * reach` calls it. Releases are built on machines of their own kind (scripts/release).
 */
import { chmodSync, copyFileSync, existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import { glibcProblems } from '../check-glibc.mjs'
import { readElf } from '../elf.mjs'
import { buildNative, nativeFile } from '../native.mjs'
import { announced, isMain, must, onPath, platform, ROOT, run, script, TARGETS } from '../project.mjs'
import { hashOf, isFresh, setStamp } from '../stamp.mjs'
import { install } from './debian.mjs'
import { Missing, REACH, wheel } from './place.mjs'

export const BINARIES = join(REACH, 'binaries')
const ZIG = '0.17.1'
/** With the source of the standard library. rustup's `rust-src` comes from no package registry. */
const DEBIAN_RUST = ['rustc-web', 'cargo-web', 'libstd-rust-web-dev', 'rust-web-src']
const INPUTS = [
  'crates/ring/src',
  'crates/core/src',
  'crates/node',
  'Cargo.toml',
  'Cargo.lock',
  'scripts/reach/binaries.mjs',
]

/** Zig's names of the machines; the number is the oldest glibc that is promised. */
const ZIG_TARGETS = {
  'linux-x64-gnu': 'x86_64-linux-gnu.2.31',
  'linux-x64-musl': 'x86_64-linux-musl',
  'linux-arm64-gnu': 'aarch64-linux-gnu.2.31',
  'linux-arm64-musl': 'aarch64-linux-musl',
}
/** @typedef {keyof typeof TARGETS} Name */

/** @param {Name} name */
export const binaryOf = (name) => join(BINARIES, `ringbell.${name}.node`)

/** Builds one binary if it is older than its sources. @param {Name} name @param {import('./place.mjs').Io} [io] */
export async function ensureBinary(name, io = {}) {
  mkdirSync(BINARIES, { recursive: true })
  if (name === platform()) {
    // The published one, linked for glibc 2.31, is checked by `npm test` (stage `package`).
    await buildNative({ portable: false, ...io })
    replace(join(ROOT, nativeFile()), name)
    return
  }
  const stamp = join(BINARIES, `${name}.stamp`)
  const wanted = () => hashOf(INPUTS) + (existsSync(binaryOf(name)) ? hashOf([binaryOf(name)], '/') : '')
  if (isFresh(stamp, wanted())) return
  const triple = TARGETS[name]
  const { cargo, env, flags } = await rustFor(triple, io)
  const linker = await zigLinker(name, io)
  const target = triple.toUpperCase().replaceAll('-', '_')
  const command = [cargo, 'build', ...flags, '-p', 'ringbell-node', '--release', '--locked', '--target', triple]
  const cargoEnv = {
    ...env,
    CARGO_TARGET_DIR: join(REACH, 'cargo'),
    CARGO_PROFILE_RELEASE_STRIP: 'debuginfo',
    [`CARGO_TARGET_${target}_LINKER`]: linker,
    // Rust links musl statically by default, and brings a C runtime for that. Zig has its own.
    ...(triple.endsWith('musl') && {
      [`CARGO_TARGET_${target}_RUSTFLAGS`]: '-C target-feature=-crt-static -C link-self-contained=no',
    }),
  }
  await announced(`binary for ${name}`, () => must(command, { ...io, env: cargoEnv }), io)
  const built = join(REACH, 'cargo', triple, 'release/libringbell_node.so')
  check(name, built)
  replace(built, name)
  setStamp(stamp, wanted())
}

/** A process may have mapped the old file. @param {string} from @param {Name} name */
function replace(from, name) {
  copyFileSync(from, `${binaryOf(name)}.new`)
  renameSync(`${binaryOf(name)}.new`, binaryOf(name))
}

/** Refuses a binary that would not load where it is meant for. @param {Name} name @param {string} path */
function check(name, path) {
  const elf = readElf(readFileSync(path))
  const problems = name.endsWith('gnu') ? glibcProblems(elf) : elf.libraries.filter((library) => library !== 'libc.so')
  if (!name.includes(elf.machine)) problems.push(`it is for ${elf.machine}`)
  if (problems.length > 0) throw new Error(`${path} does not suit ${name}: ${problems.join('; ')}`)
}

/** A compiler that has the standard library of a machine, or can build it. @param {string} triple @param {import('./place.mjs').Io} io */
async function rustFor(triple, io) {
  if (!onPath('cargo')) throw new Missing('cargo is not on the PATH')
  const libraries = execFileSync('rustc', ['--print', 'target-libdir', '--target', triple], { encoding: 'utf8' }).trim()
  const add = ['rustup', 'target', 'add', triple]
  if (existsSync(libraries) || (onPath('rustup') && (await run(add, io)) === 0))
    return { cargo: 'cargo', env: {}, flags: [] }
  await install(DEBIAN_RUST, io)
  // RUSTC_BOOTSTRAP lets a stable compiler build its own library.
  const env = { RUSTC: '/usr/bin/rustc', RUSTC_BOOTSTRAP: '1' }
  return { cargo: '/usr/bin/cargo', env, flags: ['-Zbuild-std=std,panic_unwind'] }
}

/** A program that links like gcc, for another machine. @param {Name} name @param {import('./place.mjs').Io} io */
async function zigLinker(name, io) {
  if (!onPath('pip')) throw new Missing('Zig, the linker, comes from PyPI, and there is no pip')
  const zig = join(await wheel(`zig-${ZIG}`, `ziglang==${ZIG}`, io), 'ziglang/zig')
  const linker = join(REACH, `zigcc-${name.replace('linux-', '')}`)
  const cache = join(REACH, 'zig-cache')
  const lines = [
    '#!/bin/sh',
    `export ZIG_GLOBAL_CACHE_DIR='${cache}' ZIG_LOCAL_CACHE_DIR='${cache}'`,
    `exec '${zig}' cc -target ${ZIG_TARGETS[name]} "$@"`,
  ]
  writeFileSync(linker, `${lines.join('\n')}\n`)
  chmodSync(linker, 0o755)
  return linker
}

if (isMain(import.meta.url)) {
  await script(async () => {
    const all = /** @type {Name[]} */ (Object.keys(TARGETS))
    const names = process.argv.length > 2 ? /** @type {Name[]} */ (process.argv.slice(2)) : all
    for (const name of names) {
      if (!all.includes(name)) throw new Error(`no machine ${name}; there are ${all.join(', ')}`)
      await ensureBinary(name)
      process.stdout.write(`${binaryOf(name)}\n`)
    }
  })
}
