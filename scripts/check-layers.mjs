// @ts-check
/**
 * npm run check: the rules of ARCHITECTURE and STYLE that a machine can check, one function each. Every rule has a test
 * that breaks it (__test__/tooling/layers.test.ts). native.mjs checks that the generated binding is current, because that
 * needs a build.
 */
import { resolve } from 'node:path'
import { isMain, ROOT, script } from './project.mjs'
import { readTree } from './layers/tree.mjs'
import * as names from './layers/names.mjs'
import * as rust from './layers/rust.mjs'
import * as typescript from './layers/typescript.mjs'

/** Rule → its problems, one sentence each. @param {string} root @returns {Record<string, string[]>} */
export function checkLayers(root) {
  const tree = readTree(root)
  const rules = Object.entries({ ...rust, ...typescript, ...names }).filter(([name]) => name !== 'dependencies')
  return Object.fromEntries(
    rules.map(([name, rule]) => [
      name,
      /** @type {(tree: import('./layers/tree.mjs').Tree) => string[]} */ (rule)(tree),
    ]),
  )
}

if (isMain(import.meta.url)) {
  await script(async () => {
    const results = Object.entries(checkLayers(resolve(process.argv[2] ?? ROOT)))
    for (const [, problems] of results) for (const problem of problems) process.stderr.write(`${problem}\n`)
    const broken = results.filter(([, problems]) => problems.length > 0)
    process.stdout.write(`${results.length} rules, ${broken.length} broken\n`)
    return broken.length === 0 ? 0 : 1
  })
}
