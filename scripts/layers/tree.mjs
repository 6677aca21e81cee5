// @ts-check
/** The files that the layer rules check, read once. Paths are relative to a root, so a test can use a small tree. */
import { readFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { filesBelow } from '../stamp.mjs'

const LOOKED_AT = [
  'crates',
  'src',
  '__test__',
  'examples',
  'scripts',
  'benches',
  'npm',
  'fuzz',
  'Cargo.toml',
  'package.json',
]

/**
 * @typedef {object} Tree
 * @property {string[]} files relative paths with `/`
 * @property {(path: string) => string} read the text, or '' when there is no such file
 * @property {(path: string) => string} code the text without comments and without the contents of Rust's strings
 */

/** @param {string} root @returns {Tree} */
export function readTree(root) {
  const files = LOOKED_AT.flatMap((name) => filesBelow(join(root, name))).map((path) => relative(root, path))
  const known = new Set(files)
  const texts = /** @type {Map<string, string>} */ (new Map())
  /** @param {string} path */
  const read = (path) => {
    if (!known.has(path)) return ''
    let text = texts.get(path)
    if (text === undefined) texts.set(path, (text = readFileSync(join(root, path), 'utf8')))
    return text
  }
  return { files, read, code: (path) => (path.endsWith('.rs') ? bareRust(read(path)) : bareScript(read(path))) }
}

const RUST = /\/\/[^\n]*|\/\*[\s\S]*?\*\/|\br(#*)"[\s\S]*?"\1|"(?:\\[\s\S]|[^"\\])*"|'(?:\\.[^']*|[^'\\])'/g

/** Rust text without comments and without the contents of literals. Line numbers stay. @param {string} text */
export function bareRust(text) {
  return text.replace(RUST, (found) => (found.startsWith('/') ? '' : '""') + found.replace(/[^\n]/g, ''))
}

const SCRIPT = /("(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|`(?:\\[\s\S]|[^`\\])*`)|\/\/[^\n]*|\/\*[\s\S]*?\*\//g

/** TypeScript text without comments. Strings stay, because imports are strings. @param {string} text */
export function bareScript(text) {
  return text.replace(SCRIPT, (found, literal) => literal ?? found.replace(/[^\n]/g, ''))
}

/** `path:line` of every match. @param {string} path @param {string} text @param {RegExp} pattern global */
export function places(path, text, pattern) {
  return [...text.matchAll(pattern)].map((match) => `${path}:${text.slice(0, match.index).split('\n').length}`)
}

/** The specifiers that a TypeScript or JavaScript file imports, with their lines. @param {Tree} tree @param {string} path */
export function imports(tree, path) {
  const text = tree.code(path)
  const found = text.matchAll(/(?:\bfrom|\bimport|\brequire\w*|\bimport\s*\()\s*\(?\s*(['"`])([^'"`\n]+)\1/g)
  return [...found].map((match) => ({ specifier: match[2] ?? '', line: text.slice(0, match.index).split('\n').length }))
}
