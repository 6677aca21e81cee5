// @ts-check
/** The rules of the TypeScript side: imports point down and not in circles, one file loads the binding, both sides have the same codes. */
import { posix } from 'node:path'
import { imports } from './tree.mjs'

/** @typedef {import('./tree.mjs').Tree} Tree */

/**
 * The levels of src, lowest first: what stands in one may use those below it, and its own folder. Files of src itself are the
 * ground, except for the table of contents.
 */
const LEVELS = [
  ['ground'],
  ['wait', 'codec'],
  ['bus', 'topic', 'channel', 'state', 'sync', 'group'],
  ['index'],
  ['supervise'],
  ['export', 'metrics'],
  ['cli'],
]
/** Topics and channels do not know of each other. The bus opens both, and both read its records. */
const NEIGHBOURS = ['bus']
/**
 * A state is a topic with other readers, so it uses what topics are made of. A member of a group has a server, by which managers reach
 * it. Topics and channels do not know of them.
 */
const BUILT_ON = new Map([
  ['state', 'topic'],
  ['group', 'channel'],
])

/** @param {Tree} tree */
function library(tree) {
  return tree.files.filter((path) => /^src\/.*\.[cm]?ts$/.test(path))
}

/** @param {Tree} tree */
export function onlyNativeLoadsTheBinding(tree) {
  const everywhere = tree.files.filter((path) => /^(src|examples|__test__)\/.*\.[cm]?[jt]s$/.test(path))
  return everywhere
    .filter((path) => path !== 'src/native.ts' && !path.startsWith('__test__/tooling/'))
    .flatMap((path) => imports(tree, path).map((found) => ({ path, ...found })))
    .filter(({ specifier }) => /(^|\/)native\/|\.node$|(^|\/)binding(\.cjs)?$/.test(specifier))
    .map(({ path, line, specifier }) => `${path}:${line}: imports ${specifier}; only src/native.ts loads the binding`)
}

/** The folder of a file of src, as LEVELS names it. @param {string} path */
function folderOf(path) {
  const [, first = '', second] = path.split('/')
  if (second !== undefined) return first
  return /^index\.[cm]?[jt]s$/.test(first) ? 'index' : 'ground'
}

/** @param {string} folder */
function levelOf(folder) {
  return LEVELS.findIndex((folders) => folders.includes(folder))
}

/** @param {string} from @param {string} to */
function pointsDown(from, to) {
  if (from === to || levelOf(to) < levelOf(from) || BUILT_ON.get(from) === to) return true
  return levelOf(to) === levelOf(from) && (NEIGHBOURS.includes(from) || NEIGHBOURS.includes(to))
}

/** @param {Tree} tree */
export function importsPointDown(tree) {
  return library(tree).flatMap((path) => {
    const folder = folderOf(path)
    if (levelOf(folder) < 0) return [`${path}: its folder has no level in scripts/layers/typescript.mjs`]
    return imports(tree, path).flatMap(({ specifier, line }) => {
      if (specifier === 'ringbell') return [`${path}:${line}: the library imports itself by name`]
      if (!specifier.startsWith('.')) return []
      const target = posix.normalize(posix.join(posix.dirname(path), specifier))
      if (path === 'src/native.ts' && target.startsWith('native/')) return []
      if (!target.startsWith('src/')) return [`${path}:${line}: imports ${specifier}, outside of src`]
      if (pointsDown(folder, folderOf(target))) return []
      return [`${path}:${line}: imports ${specifier}, which is not below ${folder}`]
    })
  })
}

/** Files that import each other, types included, cannot be read one after the other. @param {Tree} tree */
export function noCirclesOfFiles(tree) {
  const files = new Set(library(tree))
  /** @type {Map<string, string[]>} */
  const targets = new Map(
    [...files].map((path) => [
      path,
      imports(tree, path)
        .filter(({ specifier }) => specifier.startsWith('.'))
        .map(({ specifier }) =>
          posix.normalize(posix.join(posix.dirname(path), specifier)).replace(/\.([cm]?)js$/, '.$1ts'),
        )
        .filter((target) => files.has(target)),
    ]),
  )
  /** @type {string[]} */
  const problems = []
  /** @type {Set<string>} */
  const done = new Set()
  /** @param {string} path @param {string[]} way */
  const walk = (path, way) => {
    const begin = way.indexOf(path)
    if (begin >= 0) problems.push(`${path}: imports itself: ${[...way.slice(begin), path].join(' → ')}`)
    if (begin >= 0 || done.has(path)) return
    for (const target of targets.get(path) ?? []) walk(target, [...way, path])
    done.add(path)
  }
  for (const path of files) walk(path, [])
  return problems
}

/** The string literals of an array that begins at `start`. @param {string} text @param {RegExp} start */
function listed(text, start) {
  const from = text.search(start)
  if (from < 0) return undefined
  const open = text.indexOf('[', text.indexOf('=', from))
  return [...text.slice(open, text.indexOf(']', open)).matchAll(/["'](ERR_RINGBELL_\w+)["']/g)].map(
    (match) => match[1] ?? '',
  )
}

/** @param {Tree} tree */
export function bothSidesKnowTheCodes(tree) {
  const core = listed(tree.read('crates/core/src/error.rs'), /\bconst CODES\b/)
  const script = listed(tree.read('src/errors.ts'), /\bconst CORE_CODES\b/)
  if (core === undefined) return ['crates/core/src/error.rs: no CODES']
  if (script === undefined) return ['src/errors.ts: no CORE_CODES']
  return [
    ...core
      .filter((code) => !script.includes(code))
      .map((code) => `src/errors.ts: ${code} of crates/core/src/error.rs is missing`),
    ...script
      .filter((code) => !core.includes(code))
      .map((code) => `src/errors.ts: ${code} is not in crates/core/src/error.rs`),
    ...(new Set(core).size === core.length ? [] : ['crates/core/src/error.rs: a code is listed twice']),
  ]
}
