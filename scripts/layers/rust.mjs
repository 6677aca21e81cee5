// @ts-check
/** The rules of the Rust side: what each crate may depend on, and where `unsafe` and atomics may stand (STYLE 2, 4). */
import { places } from './tree.mjs'

/** @typedef {import('./tree.mjs').Tree} Tree */

/** Files of the binding that talk to Node-API, libuv or raw memory. Everything else there is safe Rust. */
const UNSAFE_IN_BINDING = /^crates\/node\/src\/(buffer|errors|lifecycle|poller|poll_loop|raw|slab|uv)\.rs$/
const UNSAFE_IN_CORE = /^crates\/core\/src\/(sys|segment)\//
/** Tests fork and break things on purpose; rustc still wants each place to say so (`unsafe_code` is denied). */
const IN_TESTS = /^crates\/\w+\/src\/(.*\/)?tests(\/|\.rs$)/

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
  const up = [
    ...names('core')
      .filter((name) => name === 'ringbell-node')
      .map((name) => `crates/core/Cargo.toml: depends upwards on ${name}`),
    ...names('ring')
      .filter((name) => /^ringbell(-node)?$/.test(name))
      .map((name) => `crates/ring/Cargo.toml: depends upwards on ${name}`),
  ]
  const order = ['sys', 'segment', 'bus', 'acquire', 'topic']
  const above = /** @type {Record<string, string[]>} */ ({
    sys: order.slice(1),
    segment: ['acquire', 'topic'],
    bus: ['topic'],
    acquire: ['topic'],
  })
  for (const path of tree.files.filter((name) => name.startsWith('crates/core/src/') && name.endsWith('.rs'))) {
    const room = /^crates\/core\/src\/(\w+)/.exec(path)?.[1] ?? ''
    for (const upper of above[room] ?? []) {
      const where = places(path, tree.code(path), new RegExp(`\\bcrate::(?:\\{[^}]*\\b)?${upper}::`, 'g'))
      up.push(...where.map((place) => `${place}: ${room} uses ${upper}, which stands above it`))
    }
  }
  return up
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
        !IN_TESTS.test(path),
    )
    .flatMap((path) => places(path, tree.code(path), /\bunsafe\b|\b(?:allow|expect)\s*\([^)]*\bunsafe_code\b/g))
    .map(
      (place) => `${place}: unsafe only in crates/ring, core's sys and segment, and the binding's raw files (STYLE 2)`,
    )
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
  ].map((place) => `${place}: atomics over shared memory come from crates/ring/src/sync.rs alone (STYLE 4)`)
}
