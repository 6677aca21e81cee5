// @ts-check
/**
 * The modules of a Rust crate: which file is which module, and which file a path in the source leads to. Paths are resolved through
 * `super`, groups, globs and re-exports, as rustc would, because a re-export in a `mod.rs` would otherwise hide an edge. Tests are
 * left out: they may use what stands above the file that they test. Called by the rules in rust.mjs; judges nothing itself.
 */

/** @typedef {import('./tree.mjs').Tree} Tree */
/** @typedef {{ path: string, name: string[], uses: Use[], code: string }} Module */
/** @typedef {{ name: string, path: string[], line: number }} Use */
/** @typedef {{ from: string, to: string, named: string[], line: number }} Edge `named`: the path from the crate's root, as written */

const IN_TESTS = /(^|\/)tests(\/|\.rs$)/

/** The crate's modules by their path, joined with `::`; the root is ''. @param {Tree} tree @param {string} source `crates/core/src` */
export function modulesOf(tree, source) {
  const root = { path: `${source}/lib.rs`, name: [], uses: [], code: '' }
  const modules = /** @type {Map<string, Module>} */ (new Map([['', root]]))
  for (const path of tree.files) {
    if (!path.startsWith(`${source}/`) || !path.endsWith('.rs')) continue
    const below = path.slice(source.length + 1, -'.rs'.length)
    if (IN_TESTS.test(path.slice(source.length)) || below.startsWith('bin/')) continue
    const name = below.split('/').filter((part) => part !== 'mod' && part !== 'lib')
    const code = withoutTests(tree.code(path))
    modules.set(name.join('::'), { path, name, uses: [], code })
  }
  for (const module of modules.values()) module.uses = uses(module, modules)
  return modules
}

/** Every reference from one file to another one of the crate. @param {Map<string, Module>} modules @returns {Edge[]} */
export function edgesOf(modules) {
  const edges = []
  for (const module of modules.values()) {
    for (const { path: named, line } of [...module.uses, ...qualified(module)]) {
      const to = resolve(named, modules)
      if (to !== undefined && to !== module.path) edges.push({ from: module.path, to, named, line })
    }
  }
  return edges
}

/** Blanks what follows `#[cfg(test)]`: a module, or one item. @param {string} code */
function withoutTests(code) {
  let text = code
  for (;;) {
    const at = text.search(/#\[cfg\(test\)\]/)
    if (at < 0) return text
    const open = text.indexOf('{', at)
    const semicolon = text.indexOf(';', at)
    const end = semicolon >= 0 && (open < 0 || semicolon < open) ? semicolon + 1 : closing(text, open)
    text = text.slice(0, at) + text.slice(at, end).replace(/[^\n]/g, '') + text.slice(end)
  }
}

/** Where the brace that opens at `open` is closed. @param {string} text @param {number} open */
function closing(text, open) {
  let depth = 0
  for (let at = open; at >= 0 && at < text.length; at++) {
    if (text[at] === '{') depth++
    else if (text[at] === '}' && --depth === 0) return at + 1
  }
  return text.length
}

/** @param {string} code @param {number} at */
function lineOf(code, at) {
  return code.slice(0, at).split('\n').length
}

/** What a module's `use` declarations bind, with paths from the crate's root. @param {Module} module @param {Map<string, Module>} modules */
function uses(module, modules) {
  const found = /** @type {Use[]} */ ([])
  for (const match of module.code.matchAll(/\buse\s+([^;]+);/g)) {
    const line = lineOf(module.code, match.index)
    for (const { path, name } of branches(match[1] ?? '')) {
      const rooted = fromRoot(path, module, modules)
      if (rooted !== undefined) found.push({ name, path: rooted, line })
    }
  }
  return found
}

/** The leaves of a use tree: `a::{b, c::{self, D as E}, f::*}`. @param {string} tree @returns {{ path: string[], name: string }[]} */
function branches(tree) {
  const text = tree.trim()
  const open = text.indexOf('{')
  if (open < 0) {
    const [path = '', alias] = text.split(/\s+as\s+/)
    const parts = path.split('::').map((part) => part.trim())
    if (parts.at(-1) === 'self' && parts.length > 1) parts.pop()
    return [{ path: parts, name: alias?.trim() ?? parts.at(-1) ?? '' }]
  }
  const prefix = text
    .slice(0, open)
    .split('::')
    .map((part) => part.trim())
    .filter((part) => part !== '')
  return split(text.slice(open + 1, closing(text, open) - 1))
    .flatMap(branches)
    .map(({ path, name }) =>
      path.length === 1 && path[0] === 'self'
        ? { path: prefix, name: name === 'self' ? (prefix.at(-1) ?? '') : name }
        : { path: [...prefix, ...path], name },
    )
}

/** At the commas that stand in no inner group. @param {string} text */
function split(text) {
  const parts = ['']
  let depth = 0
  for (const letter of text) {
    if (letter === '{') depth++
    if (letter === '}') depth--
    if (letter === ',' && depth === 0) parts.push('')
    else parts[parts.length - 1] += letter
  }
  return parts.map((part) => part.trim()).filter((part) => part !== '')
}

/** Paths in the text that begin at `crate`, `self` or `super`, other than in a `use`. @param {Module} module */
function qualified(module) {
  const text = module.code.replace(/\buse\s+[^;]+;|\bpub\s*\(\s*in\s+[^)]*\)/g, (found) => found.replace(/[^\n]/g, ' '))
  return [...text.matchAll(/(?<![\w:])(?:crate|self|super)(?:::\w+)+/g)].flatMap((match) => {
    const path = fromRoot(match[0].split('::'), module, new Map())
    return path === undefined ? [] : [{ path, line: lineOf(text, match.index) }]
  })
}

/**
 * The path from the crate's root, or nothing for one of another crate.
 * @param {string[]} path @param {Module} module @param {Map<string, Module>} modules
 */
function fromRoot(path, module, modules) {
  const [first = '', ...rest] = path
  if (first === 'crate') return rest
  if (first === 'self') return [...module.name, ...rest]
  if (first !== 'super') return modules.has([...module.name, first].join('::')) ? [...module.name, ...path] : undefined
  const up = path.findIndex((part) => part !== 'super')
  const levels = up < 0 ? path.length : up
  return [...module.name.slice(0, module.name.length - levels), ...path.slice(levels)]
}

/** The file that defines what a path from the root names. @param {string[]} path @param {Map<string, Module>} modules @returns {string | undefined} */
function resolve(path, modules, seen = new Set()) {
  const key = path.join('::')
  if (seen.has(key)) return undefined
  seen.add(key)
  let module = modules.get('')
  for (const [at, part] of path.entries()) {
    if (module === undefined) return undefined
    const child = modules.get([...module.name, part].join('::'))
    if (child === undefined) return inside(module, path.slice(at), modules, seen)
    module = child
  }
  return module?.path
}

/** An item of a module: its own, or one that it imports. @param {Module} module @param {string[]} rest @param {Map<string, Module>} modules @param {Set<string>} seen */
function inside(module, rest, modules, seen) {
  const [part = '', ...further] = rest
  const bound = module.uses.find(
    ({ name, path }) => name === part && path.join('::') !== [...module.name, part].join('::'),
  )
  if (bound !== undefined) return resolve([...bound.path, ...further], modules, seen) ?? module.path
  return module.path
}
