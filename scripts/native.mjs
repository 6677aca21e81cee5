// @ts-check
/**
 * Builds the binding: native/ringbell.<platform>.node (ignored by git) and its types (tracked).
 * It builds into another folder and then moves the files in. So it notices a change of the tracked files and never leaves
 * them half written. A *portable* build is the one that is published. On x64 with glibc it is linked against an old glibc.
 */
import { copyFileSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { announced, must, platform, readJson, ROOT, TARGET, TARGETS } from './project.mjs'
import { hashOf, isFresh, setStamp } from './stamp.mjs'
import { oldGlibcLinker } from './toolchain.mjs'

export const GENERATED = ['binding.d.cts']

const CRATES = ['ring', 'core', 'node'].flatMap((name) => [`crates/${name}/src`, `crates/${name}/Cargo.toml`])
const BESIDE = ['crates/node/build.rs', 'crates/node/hot.d.ts', 'Cargo.toml', 'Cargo.lock', '.cargo', 'package.json']
const INPUTS = [...CRATES, ...BESIDE, 'scripts/native.mjs', 'scripts/toolchain/package-lock.json']

/** The binding's file for this machine. */
export function nativeFile() {
  return `native/ringbell.${platform()}.node`
}

/** @param {boolean} portable */
function fingerprint(portable) {
  return `${portable ? 'portable' : 'plain'} ${hashOf([...INPUTS, nativeFile(), ...GENERATED.map((name) => `native/${name}`)])}`
}

/**
 * @param {{ portable: boolean, force?: boolean, output?: (chunk: string) => void }} options
 * @returns {Promise<string[]>} tracked files whose contents changed
 */
export async function buildNative(options) {
  const name = /** @type {keyof typeof TARGETS} */ (platform())
  const triple = TARGETS[name]
  if (triple === undefined)
    throw new Error(`There is no binding for ${name}; there are ${Object.keys(TARGETS).join(', ')}`)
  const stamp = join(ROOT, 'node_modules/.cache/ringbell/native')
  const enough = options.portable ? [true] : [true, false]
  if (options.force !== true && enough.some((portable) => isFresh(stamp, fingerprint(portable)))) return []

  const io = options.output === undefined ? {} : { output: options.output }
  const aside = join(TARGET, 'binding')
  rmSync(aside, { recursive: true, force: true })
  mkdirSync(aside, { recursive: true })
  const linker = options.portable ? await oldGlibcLinker(triple, io) : undefined
  const command = buildCommand(aside, linker === undefined ? undefined : triple)
  const env = buildEnvironment(triple, linker)
  await announced('binding (Rust)', () => must(command, { env, ...io }), io)
  const changed = staleFiles(aside, join(ROOT, 'native'))
  mkdirSync(join(ROOT, 'native'), { recursive: true })
  for (const file of [...GENERATED, `ringbell.${name}.node`]) {
    // Copy and rename: a process that has mapped the old binary must keep it whole.
    const temporary = join(ROOT, 'native', `.${file}.new.node`)
    copyFileSync(join(aside, file), temporary)
    renameSync(temporary, join(ROOT, 'native', file))
  }
  setStamp(stamp, fingerprint(options.portable))
  return changed
}

/** @param {string} folder @param {string | undefined} triple */
function buildCommand(folder, triple) {
  const cli = join(ROOT, 'node_modules/@napi-rs/cli', readJson('node_modules/@napi-rs/cli/package.json').bin.napi)
  const flags = [
    '--platform',
    '--release',
    '--manifest-path',
    'crates/node/Cargo.toml',
    '--package-json-path',
    'package.json',
  ]
  const files = [
    '--target-dir',
    TARGET,
    '--output-dir',
    folder,
    // src/native.ts loads it.
    '--no-js',
    '--dts',
    'binding.d.cts',
    '--no-const-enum',
  ]
  return [process.execPath, cli, 'build', ...flags, ...files, ...(triple === undefined ? [] : ['--target', triple])]
}

/** @param {string} triple @param {string | undefined} linker @returns {Record<string, string>} */
function buildEnvironment(triple, linker) {
  // Line tables are two thirds of the file, so they go. The names of functions stay, for backtraces.
  const strip = { CARGO_PROFILE_RELEASE_STRIP: 'debuginfo' }
  // Rust links musl statically by default, which cannot make a shared object.
  if (triple.endsWith('musl')) return { ...strip, RUSTFLAGS: '-C target-feature=-crt-static' }
  if (linker === undefined) return strip
  return { ...strip, [`CARGO_TARGET_${triple.toUpperCase().replaceAll('-', '_')}_LINKER`]: linker }
}

/** Generated files of `committed` that differ from those of `fresh`. @param {string} fresh @param {string} committed */
export function staleFiles(fresh, committed) {
  return GENERATED.filter((name) => {
    const path = join(committed, name)
    return !existsSync(path) || readFileSync(path, 'utf8') !== readFileSync(join(fresh, name), 'utf8')
  })
}
