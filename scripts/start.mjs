// @ts-check
/**
 * npm start: sets up what is missing, then runs the demo. Its exit code is the demo's. The demo stays in our process group,
 * and we wait blocked. So the demo handles Ctrl-C itself: it has processes and a directory to clean up.
 */
import { spawnSync } from 'node:child_process'
import { ROOT, script } from './project.mjs'
import { setup } from './setup.mjs'

await script(async () => {
  await setup()
  const { status } = spawnSync(process.execPath, ['examples/demo/main.js', ...process.argv.slice(2)], {
    cwd: ROOT,
    stdio: 'inherit',
  })
  return status ?? 1
})
