// @ts-check
/**
 * A linker and a C library older than glibc 2.31, from npm. A binary that is linked with them loads on Ubuntu 20.04 and
 * later. They have 47 MB packed and are for x64 only, so they are not a dependency of the package. Their lock file is in
 * scripts/toolchain, and they are unpacked into Cargo's target folder when a portable binary is built. On arm64 the release
 * is built on a system with an old glibc (see .github/workflows). check-glibc.mjs checks every result.
 */
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { announced, must, npm, ROOT, TARGET } from './project.mjs'

const TRIPLE = 'x86_64-unknown-linux-gnu'
const FOLDER = join(ROOT, 'scripts/toolchain')

/**
 * The linker for a portable build; undefined if the machine's own linker is used.
 * @param {string} triple @param {import('./project.mjs').RunOptions} [options] @returns {Promise<string | undefined>}
 */
export async function oldGlibcLinker(triple, options) {
  if (triple !== TRIPLE || process.arch !== 'x64') return undefined
  const { version } = JSON.parse(readFileSync(join(FOLDER, 'package-lock.json'), 'utf8')).packages[
    'node_modules/@napi-rs/cross-toolchain-x64-target-x86_64'
  ]
  const home = join(TARGET, `toolchain-${version}`)
  const linker = join(home, 'bin', `${TRIPLE}-gcc`)
  if (!existsSync(linker)) await announced('linker for an old glibc', () => fetchLinker(home, options), options)
  return linker
}

/** @param {string} home where it is to be @param {import('./project.mjs').RunOptions} [options] */
async function fetchLinker(home, options) {
  await must(
    npm(['ci', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error', '--prefix', FOLDER]),
    options,
  )
  const require = createRequire(join(FOLDER, 'package.json'))
  const { xz } = require('@napi-rs/lzma')
  const { Archive } = require('@napi-rs/tar')
  const packed = readFileSync(require('@napi-rs/cross-toolchain-x64-target-x86_64').toolchainPath)
  const half = `${home}.unpacking`
  rmSync(half, { recursive: true, force: true })
  mkdirSync(half, { recursive: true })
  new Archive(xz.decompressSync(packed)).unpack(half)
  renameSync(half, home)
}
