// @ts-check
/**
 * The TypeScript of `src` and `__test__` as JavaScript, compiled at once: that takes two seconds, and a compiler in each of
 * the test processes takes half a second in each. Called by ava.config.mjs; the tests read it through
 * __test__/helpers/typescript.mjs. The types are not checked here: that is a stage of its own.
 */
import { mkdirSync, readdirSync, renameSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { must, ROOT, TARGET } from './project.mjs'
import { hashOf } from './stamp.mjs'

const FOLDER = join(TARGET, 'compiled-tests')
const DAY = 24 * 3_600_000

/**
 * Where the files are, compiled now if they have changed. Each state of the sources has a folder of its own, so runs that
 * begin at the same time, or during which somebody edits, do not disturb each other.
 * @returns {Promise<string>}
 */
export async function compiledTests() {
  const folder = join(
    FOLDER,
    hashOf(['src', '__test__', 'tsconfig.base.json', 'tsconfig.tests.json', 'package-lock.json']),
  )
  if (statSync(folder, { throwIfNoEntry: false }) !== undefined) return folder
  const aside = `${folder}.${process.pid}`
  mkdirSync(aside, { recursive: true })
  const tsc = [process.execPath, join(ROOT, 'node_modules/typescript/bin/tsc'), '-p', 'tsconfig.tests.json']
  await must([...tsc, '--rootDir', ROOT, '--outDir', aside, '--sourceRoot', `${pathToFileURL(ROOT)}/`])
  try {
    renameSync(aside, folder)
  } catch (error) {
    const { code } = /** @type {NodeJS.ErrnoException} */ (error)
    if (code !== 'ENOTEMPTY' && code !== 'EEXIST') throw error
    // Another run has made the same.
    rmSync(aside, { recursive: true })
  }
  for (const name of readdirSync(FOLDER)) {
    const path = join(FOLDER, name)
    const old = statSync(path, { throwIfNoEntry: false })
    if (old !== undefined && Date.now() - old.mtimeMs > DAY) rmSync(path, { recursive: true, force: true })
  }
  return folder
}
