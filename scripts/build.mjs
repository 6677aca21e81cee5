// @ts-check
/**
 * npm run build [-- --portable]: builds those of packages, binding and dist that are stale.
 * --portable builds the binary that is published (glibc 2.31). Without it the machine's own linker is used.
 */
import { script, secondsSince } from './project.mjs'
import { setup } from './setup.mjs'

await script(async () => {
  const from = performance.now()
  const changed = await setup({ portable: process.argv.includes('--portable') })
  for (const name of changed) process.stdout.write(`native/${name} changed: commit it\n`)
  process.stdout.write(`everything is up to date, after ${secondsSince(from)}\n`)
})
