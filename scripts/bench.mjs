// @ts-check
/** npm run bench: sets up what is missing, then runs benches/run.mjs, which installs its rivals by itself. */
import { run, script } from './project.mjs'
import { setup } from './setup.mjs'

await script(async () => {
  await setup()
  return run([process.execPath, 'benches/run.mjs', ...process.argv.slice(2)])
})
