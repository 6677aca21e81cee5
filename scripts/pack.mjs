// @ts-check
/**
 * Makes the tarballs that are published: the root package, and one for each binary that exists. They are made in another
 * folder, because the published root manifest differs from ours. It names the binaries' packages (which do not exist when
 * a clone is installed), and has no scripts and no development tools. The tests use exactly what is published.
 * `pack [--binaries DIR] [--all]`: --all fails unless all four binaries are there. `npm pack` in the folders of this
 * repository runs `pack --instead`, which fails, because npm would make a package without its binary.
 */
import { copyFileSync, cpSync, existsSync, mkdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { isMain, must, npm, readJson, ROOT, script, TARGET, TARGETS } from './project.mjs'

/** The manifest of the root package as it is published. @param {Record<string, any>} own */
export function publishedManifest(own) {
  const { private: _private, scripts: _scripts, devDependencies: _tools, ...kept } = own
  const binaries = Object.keys(TARGETS).map((name) => [`${own['name']}-${name}`, own['version']])
  return { ...kept, optionalDependencies: Object.fromEntries(binaries) }
}

/** @param {string} from @param {string} folder @param {string[]} files relative to `from` */
function stage(from, folder, files) {
  for (const file of files) {
    if (!existsSync(join(from, file))) throw new Error(`${file} is missing: run npm run build first`)
    mkdirSync(dirname(join(folder, file)), { recursive: true })
    cpSync(join(from, file), join(folder, file), { recursive: true })
  }
}

/**
 * @param {{ binaries?: string, all?: boolean, output?: (chunk: string) => void }} [options]
 * @returns {Promise<{ root: string, binaries: Record<string, string> }>} paths of the tarballs
 */
export async function pack(options = {}) {
  const from = resolve(ROOT, options.binaries ?? 'native')
  const staging = join(TARGET, 'package')
  const tarballs = join(TARGET, 'tarballs')
  for (const folder of [staging, tarballs]) rmSync(folder, { recursive: true, force: true })
  mkdirSync(tarballs, { recursive: true })
  const io = options.output === undefined ? {} : { output: options.output }
  /** @param {Record<string, any>} manifest @param {string} folder */
  const tarball = async (manifest, folder) => {
    writeFileSync(join(folder, 'package.json'), `${JSON.stringify(manifest, undefined, 2)}\n`)
    await must(npm(['pack', '--ignore-scripts', '--loglevel=error', '--pack-destination', tarballs]), {
      cwd: folder,
      ...io,
    })
    return join(tarballs, `${manifest['name']}-${manifest['version']}.tgz`)
  }

  const binaries = /** @type {Record<string, string>} */ ({})
  for (const name of Object.keys(TARGETS)) {
    const file = `ringbell.${name}.node`
    if (!existsSync(join(from, file))) {
      if (options.all === true) throw new Error(`${join(from, file)} is missing`)
      continue
    }
    const folder = join(staging, name)
    stage(ROOT, folder, ['LICENSE-MIT', 'LICENSE-APACHE'])
    copyFileSync(join(from, file), join(folder, file))
    const { scripts: _scripts, ...manifest } = readJson(`npm/${name}/package.json`)
    binaries[name] = await tarball(manifest, folder)
  }
  const own = readJson('package.json')
  const folder = join(staging, 'ringbell')
  stage(ROOT, folder, ['README.md', ...own.files])
  return { root: await tarball(publishedManifest(own), folder), binaries }
}

if (isMain(import.meta.url)) {
  await script(async () => {
    if (process.argv.includes('--instead'))
      throw new Error(
        'npm pack makes no package here: run "npm run build" and "node scripts/pack.mjs" in the root of the repository',
      )
    const at = process.argv.indexOf('--binaries')
    const binaries = at < 0 ? {} : { binaries: process.argv[at + 1] ?? '' }
    const made = await pack({ ...binaries, all: process.argv.includes('--all'), output: () => {} })
    for (const path of [made.root, ...Object.values(made.binaries)])
      process.stdout.write(`${path} ${statSync(path).size}\n`)
  })
}
