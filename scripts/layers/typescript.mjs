// @ts-check
/** The rules of the TypeScript side: imports point down, one file loads the binding, both sides have the same codes. */
import { posix } from 'node:path'
import { imports } from './tree.mjs'

/** @typedef {import('./tree.mjs').Tree} Tree */

/** Folders above the API: they use it, and it never uses them. */
const ABOVE = ['cli', 'supervise', 'bridge']

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

/** @param {Tree} tree */
export function importsPointDown(tree) {
  return library(tree).flatMap((path) => {
    const room = path.split('/')[1] ?? ''
    return imports(tree, path).flatMap(({ specifier, line }) => {
      if (specifier === 'ringbell') return [`${path}:${line}: the library imports itself by name`]
      if (!specifier.startsWith('.')) return []
      const target = posix.normalize(posix.join(posix.dirname(path), specifier))
      if (path === 'src/native.ts' && target.startsWith('native/')) return []
      if (!target.startsWith('src/')) return [`${path}:${line}: imports ${specifier}, outside of src`]
      const upper = target.split('/')[1] ?? ''
      if (ABOVE.includes(upper) && upper !== room)
        return [`${path}:${line}: imports ${specifier}, which stands above it`]
      return []
    })
  })
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
