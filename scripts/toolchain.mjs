// @ts-check
/**
 * A linker and C library from before glibc 2.31, from npm: what is linked with it loads on Ubuntu 20.04 and later.
 * It is 47 MB packed and x64 only, so it is no dependency of the package: its lock file stands in scripts/toolchain,
 * and it is unpacked into Cargo's target folder when a portable binary is built. On arm64 the release is built where
 * glibc is old already (see .github/workflows), and check-glibc.mjs judges every result.
 */
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { must, npm, ROOT, TARGET } from './project.mjs'

const TRIPLE = 'x86_64-unknown-linux-gnu'
const FOLDER = join(ROOT, 'scripts/toolchain')

/**
 * The linker for a portable build, or nothing where the machine's own is to be used.
 * @param {string} triple @param {import('./project.mjs').RunOptions} [options] @returns {Promise<string | undefined>}
 */
export async function oldGlibcLinker(triple, options) {
  if (triple !== TRIPLE || process.arch !== 'x64') return undefined
  const { version } = JSON.parse(readFileSync(join(FOLDER, 'package-lock.json'), 'utf8')).packages[
    'node_modules/@napi-rs/cross-toolchain-x64-target-x86_64'
  ]
  const home = join(TARGET, `toolchain-${version}`)
  const linker = join(home, 'bin', `${TRIPLE}-gcc`)
  if (existsSync(linker)) return linker
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
  return linker
}
