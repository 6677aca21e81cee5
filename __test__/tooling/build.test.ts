/** What decides whether something is built again, whether a generated file is current, and what is published. */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import { GENERATED, staleFiles } from '../../scripts/native.mjs'
import { publishedManifest } from '../../scripts/pack.mjs'
import { npm } from '../../scripts/project.mjs'
import { isSupportedNode } from '../../scripts/setup.mjs'
import { hashOf } from '../../scripts/stamp.mjs'

function temporary(use: (folder: string) => void): void {
  const folder = mkdtempSync(join(tmpdir(), 'ringbell-build-'))
  try {
    use(folder)
  } finally {
    rmSync(folder, { recursive: true })
  }
}

test('a stamp changes only with contents, names and absence', (t) => {
  temporary((folder) => {
    const absent = hashOf(['a'], folder)
    mkdirSync(join(folder, 'a'))
    writeFileSync(join(folder, 'a/one'), '1')
    const one = hashOf(['a'], folder)
    t.not(one, absent)
    t.is(hashOf(['a'], folder), one)
    writeFileSync(join(folder, 'a/one'), '2')
    t.not(hashOf(['a'], folder), one)
    rmSync(join(folder, 'a/one'))
    writeFileSync(join(folder, 'a/two'), '1')
    t.not(hashOf(['a'], folder), one)
  })
})

test('a generated file that differs or is missing is not current', (t) => {
  temporary((folder) => {
    const [fresh, committed] = [join(folder, 'fresh'), join(folder, 'committed')]
    for (const path of [fresh, committed]) {
      mkdirSync(path)
      for (const name of GENERATED) writeFileSync(join(path, name), name)
    }
    t.deepEqual(staleFiles(fresh, committed), [])
    writeFileSync(join(fresh, 'binding.d.cts'), 'export declare function added(): void')
    t.deepEqual(staleFiles(fresh, committed), ['binding.d.cts'])
    rmSync(join(committed, 'binding.d.cts'))
    t.deepEqual(staleFiles(fresh, committed), ['binding.d.cts'])
  })
})

test('the published manifest names four binaries and no tools', (t) => {
  const own = JSON.parse(readFileSync('package.json', 'utf8')) as Record<string, unknown>
  const published = publishedManifest(own) as Record<string, unknown>
  const { version } = own as { version: string }
  t.deepEqual(published['optionalDependencies'], {
    'ringbell-linux-x64-gnu': version,
    'ringbell-linux-x64-musl': version,
    'ringbell-linux-arm64-gnu': version,
    'ringbell-linux-arm64-musl': version,
  })
  t.deepEqual(Object.keys(published['dependencies'] as object), ['commander', 'yaml'])
  for (const key of ['devDependencies', 'scripts', 'private', 'os']) t.false(key in published, key)
})

test('the pages that published files refer to are published', (t) => {
  const { files } = JSON.parse(readFileSync('package.json', 'utf8')) as { files: string[] }
  const published = (path: string): boolean => files.some((file) => path === file || path.startsWith(`${file}/`))
  const pages = new Set(
    readdirSync('docs')
      .filter((name) => name.endsWith('.md'))
      .map((name) => `docs/${name}`),
  )
  for (const name of readdirSync('dist', { recursive: true, encoding: 'utf8' })) {
    if (!/\.(js|ts)$/.test(name)) continue
    const text = readFileSync(join('dist', name), 'utf8')
    for (const [page] of text.matchAll(/docs\/[\w/-]+\.md/g)) pages.add(page)
    t.false(text.includes('sourceMappingURL'), `${name}: a map without its sources`)
  }
  for (const page of pages) t.true(published(page) && existsSync(page), page)
})

for (const folder of ['.', 'npm/linux-x64-gnu', 'npm/linux-x64-musl', 'npm/linux-arm64-gnu', 'npm/linux-arm64-musl'])
  test(`npm pack in ${folder} makes no package that lacks its binary`, (t) => {
    const [command = '', ...args] = npm(['pack', '--dry-run', '--loglevel=error'])
    const { status, stdout, stderr } = spawnSync(command, args, { cwd: folder, encoding: 'utf8' })
    t.not(status, 0, stdout)
    t.regex(stderr, /node scripts\/pack\.mjs/)
  })

test('Node versions as in engines', (t) => {
  t.deepEqual(['20.19.0', '20.20.2', '22.12.0', '24.0.0', '26.1.0'].filter(isSupportedNode).length, 5)
  t.deepEqual(['18.20.0', '20.18.3', '21.7.3', '22.11.0'].filter(isSupportedNode), [])
})
