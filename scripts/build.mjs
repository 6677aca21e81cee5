// @ts-check
/**
 * npm run build [-- --portable]: packages, binding and dist, whatever of it is stale.
 * --portable builds the binary that is published (glibc 2.31); without it the machine's own linker is used.
 */
import { script } from './project.mjs'
import { setup } from './setup.mjs'

await script(async () => {
  const changed = await setup({ portable: process.argv.includes('--portable') })
  for (const name of changed) process.stdout.write(`native/${name} changed: commit it\n`)
})
