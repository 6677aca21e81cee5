// @ts-check
/**
 * npm run docs: an API reference of what src/index.ts exports, with the guide and the other pages beside it, in
 * target/reference. A broken link, or an export without documentation, is an error. typedoc needs an older TypeScript than
 * the rest of this repository, so it has a lock file of its own and is installed here when it is missing.
 */
import { join } from 'node:path'
import { run, ROOT, script, TARGET } from './project.mjs'
import { ensurePackages, ensureReferenceTool } from './setup.mjs'

const TOOL = join(ROOT, 'docs/reference-tool')
const OUT = join(TARGET, 'reference')

await script(async () => {
  await ensurePackages()
  await ensureReferenceTool()
  const typedoc = join(TOOL, 'node_modules/typedoc/bin/typedoc')
  return run([process.execPath, typedoc, '--options', join(TOOL, 'typedoc.json'), '--out', OUT])
})
