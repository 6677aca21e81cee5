/**
 * Every code block of README.md and of docs/guide runs, and prints what its page says; every relative link leads
 * somewhere. What the pages need from npm is in docs/package.json, and is installed here when it is missing.
 */
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { spawnSync } from 'node:child_process'
import { tmpdir } from 'node:os'
import { dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import test from 'ava'
import { onPath } from '../../scripts/project.mjs'
import { ensureDocsPackages } from '../../scripts/setup.mjs'
import { anchorsOf, linksOf, sectionsOf } from './markdown.js'
import { isExample, runSection, writeFiles } from './section.js'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const GUIDE = join(ROOT, 'docs/guide')
/** As many sections run at once: most of them wait most of the time. */
const LANES = 4

const scratch = mkdtempSync(join(tmpdir(), 'ringbell-docs-'))
// Pages about several users become them.
chmodSync(scratch, 0o755)
const bin = join(scratch, 'node_modules/.bin')

const files = readdirSync(GUIDE, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.md'))
const pages = [join(ROOT, 'README.md'), ...files.sort().map((name) => join(GUIDE, name))].map((path) => {
  const name = relative(ROOT, path)
  const markdown = readFileSync(path, 'utf8')
  return { name, path, markdown, sections: sectionsOf(name, markdown) }
})

/** The examples of the crate that stand on the pages. */
const examples = pages.flatMap(({ sections }) => sections.flatMap(({ blocks }) => blocks.filter(isExample)))

/** Built before the pages run, because that takes as long as it takes. */
test.before((t) => {
  if (!onPath('cargo')) return
  const { status, stderr } = spawnSync('cargo', ['build', '--quiet', '-p', 'ringbell', '--examples'], {
    cwd: ROOT,
    encoding: 'utf8',
  })
  if (status !== 0) t.fail(stderr)
})

test('the Rust programs of the pages are the examples of the crate', (t) => {
  for (const { at, options, code } of examples)
    t.is(code, readFileSync(join(ROOT, 'crates/core/examples', options.get('file') ?? ''), 'utf8'), at)
})

/** Laid out as a project that has installed ringbell, and what docs/package.json has. */
test.before(async (t) => {
  await ensureDocsPackages({ output: (chunk) => t.log(chunk) })
  mkdirSync(bin, { recursive: true })
  writeFileSync(join(scratch, 'package.json'), '{ "type": "module" }')
  const link = (name: string, target: string): void => {
    mkdirSync(dirname(join(scratch, 'node_modules', name)), { recursive: true })
    symlinkSync(target, join(scratch, 'node_modules', name))
  }
  link('ringbell', ROOT)
  for (const name of ['@types', 'undici']) link(name, join(ROOT, 'node_modules', name))
  const { dependencies } = JSON.parse(readFileSync(join(ROOT, 'docs/package.json'), 'utf8')) as { dependencies: object }
  for (const name of Object.keys(dependencies)) link(name, join(ROOT, 'docs/node_modules', name))
  for (const name of readdirSync(join(ROOT, 'docs/node_modules/.bin')))
    link(`.bin/${name}`, join(ROOT, 'docs/node_modules/.bin', name))
  link('.bin/tsc', join(ROOT, 'node_modules/.bin/tsc'))
  writeFileSync(
    join(bin, 'ringbell'),
    `#!/bin/sh\nexec '${process.execPath}' '${join(ROOT, 'dist/cli/main.js')}' "$@"\n`,
  )
  chmodSync(join(bin, 'ringbell'), 0o755)
})

test.after.always(() => rmSync(scratch, { recursive: true, force: true }))

const lanes: Promise<unknown>[] = Array.from({ length: LANES }, () => Promise.resolve())
let turn = 0
/** Runs when the lane before it is free, whatever became of that one. */
function inLane(action: () => Promise<void>): Promise<void> {
  const lane = turn++ % LANES
  const result = (lanes[lane] ?? Promise.resolve()).then(action)
  lanes[lane] = result.catch(() => {})
  return result
}

const NAMESPACES = ['--mount', '--pid', '--ipc', '--net', '--fork', '--kill-child']
/** What a block's `needs=` can name besides a program: the command that succeeds where it is to be had. */
const RIGHTS: Record<string, string[]> = {
  users: ['setpriv', '--reuid', '1001', '--clear-groups', 'test', '-r', join(ROOT, 'index.js')],
  namespaces: ['unshare', ...NAMESPACES, 'mount', '-t', 'tmpfs', 'tmpfs', '/mnt'],
}

function has(need: string): boolean {
  const [command, ...args] = RIGHTS[need] ?? []
  return command === undefined ? onPath(need) : spawnSync(command, args).status === 0
}

for (const { name, sections } of pages) {
  for (const [n, { title, blocks }] of sections.entries()) {
    const missing = blocks.map(({ options }) => options.get('needs') ?? '').find((need) => need !== '' && !has(need))
    if (missing !== undefined) console.error(`*** NOT TESTED, because ${missing} is missing: ${name}: ${title} ***`)
    const testOrSkip = missing === undefined ? test : test.skip
    testOrSkip(`${name}: ${title}`, async (t) => {
      const folder = join(scratch, `${name.replace(/\W/g, '-')}-${n}`)
      mkdirSync(folder)
      await inLane(() => runSection(sections.slice(0, n + 1), folder, bin))
      t.pass()
    })
  }
}

test('the TypeScript of the pages has no type errors', (t) => {
  const folder = mkdtempSync(join(scratch, 'types-'))
  for (const { name, sections } of pages) writeFiles(sections, join(folder, name.replace(/\W/g, '-')))
  const config = { extends: join(ROOT, 'tsconfig.base.json'), compilerOptions: { noEmit: true }, include: ['**/*.ts'] }
  writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify(config))
  const tsc = join(ROOT, 'node_modules/typescript/bin/tsc')
  const { stdout } = spawnSync(process.execPath, [tsc, '-p', folder], { encoding: 'utf8' })
  // Without any TypeScript on the pages there are no inputs.
  t.is(stdout.replace(/^error TS18003.*\n/, ''), '')
})

test('relative links lead somewhere', (t) => {
  const missing = pages.flatMap(({ name, path, markdown }) =>
    linksOf(markdown)
      .filter((to) => {
        const [file = '', anchor] = to.split('#')
        const target = file === '' ? path : join(dirname(path), file)
        if (!existsSync(target)) return true
        return anchor !== undefined && target.endsWith('.md') && !anchorsOf(readFileSync(target, 'utf8')).has(anchor)
      })
      .map((to) => `${name}: ${to}`),
  )
  t.deepEqual(missing, [])
})

test('every page with Rust is among the doc tests', (t) => {
  const included = readFileSync(join(ROOT, 'crates/core/src/guide.rs'), 'utf8')
  const rust = pages.filter(({ sections }) =>
    sections.some(({ blocks }) => blocks.some((block) => block.language === 'rust' && !isExample(block))),
  )
  t.deepEqual(
    rust.map(({ name }) => name).filter((name) => !included.includes(`/${name}"`)),
    [],
  )
})
