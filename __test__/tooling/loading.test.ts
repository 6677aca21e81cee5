/** How users load the compiled part: when it is missing, when it is forbidden, and when a tool traces the files of a deployment. */
import { spawnSync } from 'node:child_process'
import { cpSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { nodeFileTrace } from '@vercel/nft'
import test, { type ExecutionContext } from 'ava'
import { nativeFile } from '../../scripts/native.mjs'
import { platform } from '../../scripts/project.mjs'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const OPEN = `import(process.argv[1]).then(({ Bus }) => Bus.open({ path: process.argv[2] }))
  .catch(({ code, message }) => console.log(code, message))`

/** What `Bus.open` of the package in `folder` rejects with. */
function refusal(folder: string, ...flags: string[]): string {
  const index = pathToFileURL(join(folder, 'index.js')).href
  return spawnSync(process.execPath, [...flags, '-e', OPEN, index, join(folder, 'bus')], { encoding: 'utf8' }).stdout
}

/** The package without its compiled part. */
function bare(t: ExecutionContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'ringbell-loading-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  for (const path of ['index.js', 'package.json', 'dist'])
    cpSync(join(ROOT, path), join(folder, path), { recursive: true })
  return folder
}

test('without its binary the package names the missing one, which is the one that the build makes', (t) => {
  t.regex(refusal(bare(t)), new RegExp(`^ERR_RINGBELL_BINDING The package ringbell-${platform()}, `))
})

test('a file that is no binary is the reason', (t) => {
  const folder = bare(t)
  cpSync(join(ROOT, 'package.json'), join(folder, nativeFile()))
  t.regex(
    refusal(folder),
    /^ERR_RINGBELL_BINDING The compiled part .*could not be loaded: .*(file too short|invalid ELF header)/,
  )
})

test('if add-ons are switched off, that is the reason', (t) => {
  t.regex(refusal(ROOT, '--no-addons'), /^ERR_RINGBELL_BINDING .*add-ons are switched off/)
})

test('a tool that traces the files of a deployment finds the binary', async (t) => {
  const { fileList } = await nodeFileTrace([join(ROOT, 'index.js')], { base: ROOT })
  t.true(fileList.has(nativeFile()), [...fileList].join('\n'))
})
