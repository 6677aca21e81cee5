// @ts-check
/** The rules for file names, and for the one version number that several manifests contain. */

/** @typedef {import('./tree.mjs').Tree} Tree */

const NOTHING_SAYING = /^(utils?|helpers?|common|misc|manager)$/
/** The rule itself excepts test helpers. */
const EXCEPTED = /^__test__\/helpers\/|^crates\/\w+\/tests\/helpers\//

/** @param {Tree} tree */
export function filesSayWhatTheyAre(tree) {
  return tree.files
    .filter((path) => !EXCEPTED.test(path))
    .filter((path) => path.split('/').some((part) => NOTHING_SAYING.test(part.replace(/\..*$/, ''))))
    .map((path) => `${path}: no utils, helpers, common, misc, manager`)
}

/** @param {Tree} tree */
export function filesAreSpelledAlike(tree) {
  const wrong = tree.files.filter((path) => {
    const name = path.split('/').at(-1) ?? ''
    // A program (src/bin) has the name of its command, with a hyphen.
    if (name.endsWith('.rs')) return !(path.includes('/src/bin/') ? /^[a-z0-9-]+\.rs$/ : /^[a-z0-9_]+\.rs$/).test(name)
    if (/\.[cm]?[jt]s$/.test(name)) return !/^[a-z0-9]+(-[a-z0-9]+)*(\.[a-z0-9]+)*$/.test(name)
    return false
  })
  return wrong.map((path) => `${path}: Rust files are snake_case, TypeScript's kebab-case`)
}

/** @param {Tree} tree */
export function oneVersion(tree) {
  const { version } = JSON.parse(tree.read('package.json') || '{}')
  const cargo = /\[workspace\.package\][^[]*?^version = "([^"]+)"/m.exec(tree.read('Cargo.toml'))?.[1]
  const manifests = tree.files.filter((path) => /^npm\/[\w-]+\/package\.json$/.test(path))
  return [
    ...(cargo === version ? [] : [`Cargo.toml: version ${cargo}, package.json has ${version}`]),
    ...manifests
      .filter((path) => JSON.parse(tree.read(path)).version !== version)
      .map((path) => `${path}: version ${JSON.parse(tree.read(path)).version}, package.json has ${version}`),
  ]
}
