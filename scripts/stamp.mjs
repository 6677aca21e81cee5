// @ts-check
/**
 * Stamps: whether a build product is up to date. A stamp is a hash over the contents of inputs and outputs, stored beside
 * the products. So clocks and the order of a checkout have no effect, and a product that was edited or removed is stale.
 */
import { createHash } from 'node:crypto'
import { mkdirSync, readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { ROOT } from './project.mjs'

const SKIPPED = new Set(['node_modules', 'target', '.git'])

/** All files at or below `path`, sorted; none if it does not exist. @param {string} path @returns {string[]} */
export function filesBelow(path) {
  const found = statSync(path, { throwIfNoEntry: false })
  if (found === undefined) return []
  if (!found.isDirectory()) return [path]
  const names = readdirSync(path).filter((name) => !SKIPPED.has(name))
  return names.sort().flatMap((name) => filesBelow(join(path, name)))
}

/** A hash of the files' names and contents; a missing file counts. @param {readonly string[]} paths @param {string} root */
export function hashOf(paths, root = ROOT) {
  const hash = createHash('sha256')
  for (const path of paths) {
    const files = filesBelow(join(root, path))
    if (files.length === 0) hash.update(`missing ${path}\0`)
    for (const file of files) hash.update(`${file}\0`).update(readFileSync(file)).update('\0')
  }
  return hash.digest('hex')
}

/** @param {string} stamp path of the stamp @param {string} expected */
export function isFresh(stamp, expected) {
  try {
    return readFileSync(stamp, 'utf8') === expected
  } catch {
    return false
  }
}

/** @param {string} stamp @param {string} value */
export function setStamp(stamp, value) {
  mkdirSync(dirname(stamp), { recursive: true })
  writeFileSync(stamp, value)
}
