// @ts-check
/**
 * Publishes the five packages: the binaries first, so that the root never names one that does not exist. It publishes with
 * provenance, which needs a CI that npm trusts. A version that is already published is skipped, so a run that broke off can
 * be repeated. `publish --binaries DIR [--dry-run]`: the dry run packs the binaries that exist, and publishes nothing.
 */
import { must, npm, readJson, run, script } from '../project.mjs'
import { pack } from '../pack.mjs'
import { ensureDist, ensurePackages } from '../setup.mjs'

/** @param {string} name @param {string} version */
async function isPublished(name, version) {
  return (await run(npm(['view', `${name}@${version}`, 'version', '--loglevel=silent']), { output: () => {} })) === 0
}

await script(async () => {
  const dry = process.argv.includes('--dry-run')
  const at = process.argv.indexOf('--binaries')
  const { name, version } = readJson('package.json')
  const tag = process.env['GITHUB_REF_NAME']
  if (!dry && tag !== `v${version}`) throw new Error(`the tag is ${tag}, package.json has ${version}`)
  await ensurePackages()
  await ensureDist()
  const made = await pack({ binaries: at < 0 ? 'native' : (process.argv[at + 1] ?? ''), all: !dry })
  const packages = Object.entries(made.binaries).map(([target, path]) => ({ id: `${name}-${target}`, path }))
  for (const { id, path } of [...packages, { id: name, path: made.root }]) {
    if (!dry && (await isPublished(id, version))) continue
    const flags = dry ? ['--dry-run'] : ['--provenance']
    await must(npm(['publish', path, '--access', 'public', '--ignore-scripts', ...flags]))
  }
})
