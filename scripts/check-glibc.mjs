// @ts-check
/**
 * check-glibc FILE...: fails if a .node file would not load with glibc 2.31 (Ubuntu 20.04).
 * A file can need more in two ways: by a symbol with a later version, and by a strong symbol without a version. A link
 * against an older C library leaves such a symbol for a call that the library does not know. Only the listed ones pass.
 */
import { readFileSync } from 'node:fs'
import { isMain, script } from './project.mjs'
import { readElf } from './elf.mjs'

export const NEWEST = '2.31'

/** Calls that glibc 2.31 has and the toolchain's glibc 2.17 has not, with the version that added them. */
const SINCE = /** @type {Record<string, string>} */ ({
  copy_file_range: '2.27',
  getentropy: '2.25',
  getrandom: '2.25',
  gettid: '2.30',
  memfd_create: '2.27',
  mlock2: '2.27',
  preadv2: '2.26',
  pwritev2: '2.26',
  reallocarray: '2.26',
  renameat2: '2.28',
  statx: '2.28',
  tgkill: '2.30',
})

/** Symbols that Node itself provides to an addon. */
const OF_NODE = /^(napi|node_api|uv)_/

/** @param {string} left @param {string} right dotted numbers */
function isNewer(left, right) {
  const [a, b] = [left, right].map((text) => text.split('.').map(Number))
  for (let index = 0; index < Math.max(a?.length ?? 0, b?.length ?? 0); index++) {
    const difference = (a?.[index] ?? 0) - (b?.[index] ?? 0)
    if (difference !== 0) return difference > 0
  }
  return false
}

/**
 * What `elf` needs that an old glibc does not have: one sentence each.
 * @param {import('./elf.mjs').Elf} elf @param {string} [newest]
 */
export function glibcProblems(elf, newest = NEWEST) {
  const problems = []
  for (const { library, version } of elf.versions) {
    if (version.startsWith('GLIBC_') && (!/^GLIBC_[\d.]+$/.test(version) || isNewer(version.slice(6), newest))) {
      const symbols = elf.imports.filter((symbol) => symbol.version === version).map((symbol) => symbol.name)
      problems.push(`${version} of ${library} is above ${newest}: ${symbols.join(', ') || 'wanted by the file itself'}`)
    }
  }
  for (const { name, version, weak } of elf.imports) {
    if (version !== undefined || weak || OF_NODE.test(name)) continue
    const since = SINCE[name]
    if (since === undefined) problems.push(`${name} has no version and is not known to be in glibc ${newest}`)
    else if (isNewer(since, newest)) problems.push(`${name} came with glibc ${since}, above ${newest}`)
  }
  if (elf.libraries.some((name) => name.startsWith('libstdc++')))
    problems.push('libstdc++ is needed: nothing here is C++')
  return problems
}

if (isMain(import.meta.url)) {
  await script(async () => {
    let failed = 0
    for (const path of process.argv.slice(2)) {
      const elf = readElf(readFileSync(path))
      const problems = glibcProblems(elf)
      for (const problem of problems) process.stderr.write(`${path}: ${problem}\n`)
      if (problems.length === 0) process.stdout.write(`${path}: ${elf.machine}, loads on glibc ${NEWEST} and later\n`)
      failed += problems.length
    }
    return failed === 0 && process.argv.length > 2 ? 0 : 1
  })
}
