// @ts-check
/** The rules of the Rust side: what each crate may depend on, and where `unsafe` and atomics may stand. */
import { edgesOf, modulesOf } from './modules.mjs'
import { places } from './tree.mjs'

/** @typedef {import('./tree.mjs').Tree} Tree */

/** Files of the binding that talk to Node-API, libuv or raw memory. Everything else there is safe Rust. */
const UNSAFE_IN_BINDING = /^crates\/node\/src\/(buffer|errors|lifecycle|poller|poll_loop|raw|uv)\.rs$/
const UNSAFE_IN_CORE = /^crates\/core\/src\/(sys|segment)\//
/** The supervisor of system calls, which only tests use: nix knows nothing of it. */
const UNSAFE_IN_OLDSYS = 'crates/oldsys/src/nth.rs'
/** Tests fork and break things on purpose; rustc still wants each place to say so (`unsafe_code` is denied). */
const IN_TESTS = /^crates\/\w+\/src\/(.*\/)?tests(\/|\.rs$)/

const CORE = 'crates/core/src'
/** The core's folders and root files. Each imports only what stands before it. */
const ORDER = [
  'setters',
  'error',
  'headers',
  'sys',
  'record',
  'listen',
  'process',
  'reactor',
  'bus',
  'segment',
  'handshake',
  'port',
  'topic',
  'channel',
  'group',
  'state',
  'sync',
  'doctor',
  'guide',
]
/** The names in a manifest's dependency tables. @param {string} manifest @returns {{ table: string, name: string }[]} */
export function dependencies(manifest) {
  const found = []
  let table = ''
  for (const line of manifest.split('\n')) {
    const header = /^\s*\[+([^\]].*?)\]+\s*(#.*)?$/.exec(line)
    if (header?.[1] !== undefined) {
      table = header[1]
      // [dependencies.name] is a dependency by itself
      const own = /^(.*dependencies)\.([\w-]+)$/.exec(table)
      if (own?.[1] !== undefined && own[2] !== undefined) found.push({ table: own[1], name: own[2] })
      continue
    }
    const name = /^\s*([\w-]+)\s*[.=]/.exec(line)?.[1]
    if (name !== undefined && table.endsWith('dependencies')) found.push({ table, name })
  }
  return found
}

/** @param {Tree} tree */
export function ringStandsAlone(tree) {
  return dependencies(tree.read('crates/ring/Cargo.toml'))
    .filter(({ table }) => !table.endsWith('dev-dependencies'))
    .filter(({ table, name }) => !(name === 'loom' && table.includes('cfg(loom)')))
    .map(
      ({ name }) => `crates/ring/Cargo.toml: depends on ${name}; ring depends on nothing (loom only under cfg(loom))`,
    )
}

/** @param {Tree} tree */
export function cratesPointDown(tree) {
  /** @param {string} crate */
  const names = (crate) => dependencies(tree.read(`crates/${crate}/Cargo.toml`)).map(({ name }) => name)
  return [
    ...names('core')
      .filter((name) => name === 'ringbell-node')
      .map((name) => `crates/core/Cargo.toml: depends upwards on ${name}`),
    ...names('ring')
      .filter((name) => /^ringbell(-node)?$/.test(name))
      .map((name) => `crates/ring/Cargo.toml: depends upwards on ${name}`),
  ]
}

/** @param {Tree} tree */
export function foldersPointDown(tree) {
  /** @param {string | undefined} name */
  const rank = (name = 'lib') => (name === 'lib' ? ORDER.length : ORDER.indexOf(name))
  const modules = modulesOf(tree, CORE)
  const unlisted = [...modules.values()]
    .filter(({ name }) => rank(name[0]) < 0)
    .map(({ path, name }) => `${path}: ${name[0]} has no place in the order of the core's folders (rust.mjs)`)
  const up = edgesOf(modules).flatMap(({ from: path, to, named, line }) => {
    const from = folderOf(path)
    // A name may be re-exported by a folder that stands above the one that defines it.
    const through = named.length > 1 ? named[0] : undefined
    const upper = [folderOf(to), through].find((name) => name !== undefined && rank(name) > rank(from))
    return upper === undefined ? [] : [`${path}:${line}: ${from} uses ${upper}, which stands above it`]
  })
  return [...unlisted, ...up]
}

/** A file may use its parents and they may use it; any other circle of files is two ideas that cannot be told apart. @param {Tree} tree */
export function filesFormNoCircle(tree) {
  const edges = ['core', 'node', 'ring'].flatMap((crate) => sideways(modulesOf(tree, `crates/${crate}/src`)))
  const next = /** @type {Map<string, Set<string>>} */ (new Map())
  for (const { from, to } of edges) {
    next.set(from, (next.get(from) ?? new Set()).add(to))
  }
  const reach = new Map([...next.keys()].map((from) => [from, reachable(from, next)]))
  const circles = new Set()
  for (const [from, there] of reach) {
    if (there.has(from))
      circles.add(
        [...there]
          .filter((to) => reach.get(to)?.has(from))
          .sort()
          .join(', '),
      )
  }
  return [...circles].map((circle) => `these files import each other in a circle: ${circle}`)
}

/** The edges that are not between a module and one below it. @param {Map<string, import('./modules.mjs').Module>} modules */
function sideways(modules) {
  const names = new Map([...modules.values()].map(({ path, name }) => [path, name.join('::')]))
  /** @param {string} one @param {string} other */
  const below = (one, other) => names.get(other) === '' || `${names.get(one)}::`.startsWith(`${names.get(other)}::`)
  return edgesOf(modules).filter(({ from, to }) => !below(from, to) && !below(to, from))
}

/** @param {string} path */
function folderOf(path) {
  return /^crates\/core\/src\/(\w+)/.exec(path)?.[1] ?? ''
}

/** @param {string} from @param {Map<string, Set<string>>} next */
function reachable(from, next) {
  const found = /** @type {Set<string>} */ (new Set())
  const open = [from]
  for (let path = open.pop(); path !== undefined; path = open.pop()) {
    for (const to of next.get(path) ?? []) {
      if (found.has(to)) continue
      found.add(to)
      open.push(to)
    }
  }
  return found
}

/** One style of modules in the core. @param {Tree} tree */
export function foldersHaveModFiles(tree) {
  return tree.files
    .filter((path) => path.startsWith(`${CORE}/`) && path.endsWith('.rs'))
    .filter((path) => tree.files.some((other) => other.startsWith(`${path.slice(0, -'.rs'.length)}/`)))
    .map((path) => `${path}: a module that has a folder is that folder's mod.rs`)
}

/** @param {Tree} tree */
export function onlyNodeKnowsNapi(tree) {
  const manifests = tree.files.filter((path) => path.endsWith('Cargo.toml') && path !== 'crates/node/Cargo.toml')
  const sources = tree.files.filter(
    (path) => path.startsWith('crates/') && path.endsWith('.rs') && !path.startsWith('crates/node/'),
  )
  return [
    ...manifests.flatMap((path) =>
      dependencies(tree.read(path))
        .filter(({ name }) => name.startsWith('napi'))
        .map(({ name }) => `${path}: depends on ${name}`),
    ),
    ...sources.flatMap((path) => places(path, tree.code(path), /\bnapi\w*::/g).map((place) => `${place}: names napi`)),
  ].map((problem) => `${problem}; only crates/node knows napi`)
}

/** @param {Tree} tree */
export function unsafeHasItsPlace(tree) {
  return tree.files
    .filter((path) => /^crates\/\w+\/(src\/|build\.rs)/.test(path) && path.endsWith('.rs'))
    .filter(
      (path) =>
        !path.startsWith('crates/ring/') &&
        !UNSAFE_IN_CORE.test(path) &&
        !UNSAFE_IN_BINDING.test(path) &&
        path !== UNSAFE_IN_OLDSYS &&
        !IN_TESTS.test(path),
    )
    .flatMap((path) => places(path, tree.code(path), /\bunsafe\b|\b(?:allow|expect)\s*\([^)]*\bunsafe_code\b/g))
    .map((place) => `${place}: unsafe only in crates/ring, core's sys and segment, and the binding's raw files`)
}

/** @param {Tree} tree */
export function atomicsComeFromTheShim(tree) {
  const rust = tree.files.filter((path) => /^crates\/\w+\/src\/.*\.rs$/.test(path))
  const inRing = rust.filter((path) => path.startsWith('crates/ring/') && path !== 'crates/ring/src/sync.rs')
  const elsewhere = rust.filter((path) => !path.startsWith('crates/ring/'))
  return [
    ...inRing.flatMap((path) => places(path, tree.code(path), /\b(?:core|std)::sync::atomic\b|\bloom::/g)),
    // Others may count in their own memory, but an atomic over memory that is shared is ring's to make.
    ...elsewhere.flatMap((path) => places(path, tree.code(path), /\bAtomic\w+::from_ptr\b/g)),
  ].map((place) => `${place}: atomics over shared memory come from crates/ring/src/sync.rs alone`)
}
