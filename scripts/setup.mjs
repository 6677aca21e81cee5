// @ts-check
/**
 * Makes what a clone needs to run: npm packages, the native binding, dist/. Each is made only if it is missing or older
 * than its sources, so a second `npm start` has nothing to do. Called by start, test, bench and build.
 * Needs Node, cargo and a C linker, and says which one is missing.
 */
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { announced, npm, must, onPath, ROOT } from './project.mjs'
import { buildNative } from './native.mjs'
import { hashOf, isFresh, setStamp } from './stamp.mjs'

/** A folder of its own: in the root, its `tsc` would take the place of ours. */
export const OLDER_TYPESCRIPT = '__test__/types/older'
const DIST_STAMP = join(ROOT, 'node_modules/.cache/ringbell/dist')

/** @param {string} version such as 20.19.0 */
export function isSupportedNode(version) {
  const [major = 0, minor = 0] = version.split('.').map(Number)
  return (major === 20 && minor >= 19) || (major === 22 && minor >= 12) || major > 22
}

/**
 * npm ci in a folder that has a lock file.
 * @param {string} folder @param {import('./project.mjs').RunOptions} [options]
 */
async function ensureInstalled(folder, options) {
  const stamp = join(ROOT, folder, 'node_modules/.cache/ringbell/packages')
  const wanted = hashOf([join(folder, 'package.json'), join(folder, 'package-lock.json')])
  if (isFresh(stamp, wanted)) return
  // Nothing here needs install scripts; not running them keeps a clone's first command predictable.
  const install = npm(['ci', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'])
  const name = `packages of ${folder === '.' ? 'the repository' : folder}`
  await announced(name, () => must(install, { ...options, cwd: join(ROOT, folder) }), options)
  setStamp(stamp, wanted)
}

/** @param {import('./project.mjs').RunOptions} [options] */
export async function ensurePackages(options) {
  await ensureInstalled('.', options)
}

/** What the programs in docs/ use: nothing else needs it. @param {import('./project.mjs').RunOptions} [options] */
export async function ensureDocsPackages(options) {
  await ensureInstalled('docs', options)
}

/** typedoc, for `npm run docs` alone. @param {import('./project.mjs').RunOptions} [options] */
export async function ensureReferenceTool(options) {
  await ensureInstalled('docs/reference-tool', options)
}

/** Older compilers, for the published types alone. @param {import('./project.mjs').RunOptions} [options] */
export async function ensureOlderTypeScript(options) {
  await ensureInstalled(OLDER_TYPESCRIPT, options)
}

/** @param {import('./project.mjs').RunOptions} [options] */
export async function ensureDist(options) {
  const inputs = ['src', 'tsconfig.base.json', 'tsconfig.build.json', 'package-lock.json', 'native/binding.d.cts']
  const wanted = () => hashOf([...inputs, 'package.json', 'scripts/man.mjs', 'dist'])
  if (isFresh(DIST_STAMP, wanted())) return
  rmSync(join(ROOT, 'dist'), { recursive: true, force: true })
  const tsc = [process.execPath, join(ROOT, 'node_modules/typescript/bin/tsc'), '-p', 'tsconfig.build.json']
  await announced('TypeScript', () => must(tsc, options), options)
  // In a process of its own, because the next build must not find the modules of this one loaded.
  await must([process.execPath, join(ROOT, 'scripts/man.mjs')], options)
  setStamp(DIST_STAMP, wanted())
}

/** Checks for tools that the setup cannot fetch. */
export function ensureTools() {
  if (!isSupportedNode(process.versions.node))
    throw new Error(`Node ${process.versions.node} is too old: ^20.19.0 || >=22.12.0`)
  if (!onPath('cargo')) throw new Error('cargo is not on the PATH: install Rust from https://rustup.rs')
}

/**
 * @param {{ portable?: boolean }} [options] portable: the binary that is published, linked for glibc 2.31 (see native.mjs)
 * @returns {Promise<string[]>} generated files that differed from what was there
 */
export async function setup(options = {}) {
  ensureTools()
  await ensurePackages()
  const changed = await buildNative({ portable: options.portable ?? false })
  await ensureDist()
  return changed
}
