// @ts-check
/**
 * The rows of `npm run reach`: each runs the packed package, or this clone's tests, on one platform or with one tool. Rows
 * run one after the other. What they share (binaries, tarballs, the registry) is made when the first row asks for it.
 */
import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { avaOutcome } from '../outcome.mjs'
import { pack } from '../pack.mjs'
import { must, npm, platform, ROOT, run, SILENCE } from '../project.mjs'
import { ensureDist, ensurePackages } from '../setup.mjs'
import { BINARIES, binaryOf, ensureBinary } from './binaries.mjs'
import { REACH } from './place.mjs'
import { startRegistry } from './registry.mjs'
import { bun, deno, installer, node, nodeArm64, nodeMusl, NODES } from './runtimes.mjs'

/** @typedef {import('./binaries.mjs').Name} Name */
/** @typedef {import('./place.mjs').Io & { output: (chunk: string) => void }} Io */
/** @typedef {import('./runtimes.mjs').Runtime} Runtime */
/** @typedef {{ group: string, name: string, what: string, run: (io: Io) => Promise<string> }} Row `run` returns what passed */

const USER = join(ROOT, 'scripts/reach/user')
const FEATURES = 'features.mjs'
const HERE = /** @type {Name} */ (platform())
const THIS_NODE = /** @type {Runtime} */ ({ command: [process.execPath] })
/** What ava runs where the whole suite would take too long: an emulator, a runner's limit. */
const PARTS = ['__test__/unit/**', '__test__/integration/acquisition-*.test.ts', '__test__/integration/channel.test.ts']

/** @type {{ binaries: Set<Name>, url: string, close(): void } | undefined} */
let registry

/** The registry's address, once it has the binary for this machine. @param {Name} name @param {Io} io */
async function registryWith(name, io) {
  await ensurePackages(io)
  await ensureDist(io)
  await ensureBinary(name, io)
  if (registry?.binaries.has(name)) return registry.url
  registry?.close()
  const tarballs = await pack({ binaries: BINARIES, ...io })
  const binaries = new Set(/** @type {Name[]} */ (Object.keys(tarballs.binaries)))
  registry = { binaries, ...(await startRegistry(tarballs)) }
  return registry.url
}

/** Ends what the rows share. */
export function closeRows() {
  registry?.close()
}

/** Variables that make every installer use this registry, and caches of its own: versions are the same every time. */
/** @param {string} url @param {string} folder */
const installing = (url, folder) => ({
  npm_config_registry: url,
  npm_config_cache: join(folder, 'cache'),
  npm_config_store_dir: join(folder, 'cache'),
  npm_config_userconfig: '/dev/null',
  YARN_CACHE_FOLDER: join(folder, 'cache'),
  YARN_GLOBAL_FOLDER: join(folder, 'cache'),
  YARN_NPM_REGISTRY_SERVER: url,
  YARN_UNSAFE_HTTP_WHITELIST: '127.0.0.1',
  YARN_ENABLE_IMMUTABLE_INSTALLS: 'false',
  YARN_ENABLE_TELEMETRY: 'false',
  YARN_NPM_MINIMAL_AGE_GATE: '0',
  BUN_INSTALL_CACHE_DIR: join(folder, 'cache'),
  CI: undefined,
})

/**
 * A user's project, with ringbell installed in it.
 * @param {string} name of its folder @param {string[]} install @param {Io} io
 * @param {{ machine?: Name, tools?: boolean, env?: Record<string, string> }} [options]
 */
async function project(name, install, io, options = {}) {
  const url = await registryWith(options.machine ?? HERE, io)
  const folder = join(REACH, 'users', name)
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(join(REACH, 'users'), { recursive: true })
  cpSync(USER, folder, { recursive: true })
  const { devDependencies, ...manifest } = JSON.parse(readFileSync(join(USER, 'package.json'), 'utf8'))
  writeFileSync(
    join(folder, 'package.json'),
    JSON.stringify({ ...manifest, ...(options.tools && { devDependencies }) }),
  )
  // A lock file of its own, so that yarn takes the folder as a project and not as a part of this repository.
  writeFileSync(join(folder, 'yarn.lock'), '')
  await must(install, { ...io, cwd: folder, env: { ...installing(url, folder), ...options.env } })
  return folder
}

const NPM_INSTALL = npm(['install', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'])
/** @param {Name} machine @param {Io} io */
const projectFor = (machine, io) => {
  const [, cpu, library] = machine.split('-')
  const libc = library === 'gnu' ? 'glibc' : 'musl'
  return project(`npm-${machine}`, [...NPM_INSTALL, '--os=linux', `--cpu=${cpu}`, `--libc=${libc}`], io, { machine })
}

/**
 * Runs a program in a folder, on a bus of its own, and returns its last line, `N passed, N failed`.
 * @param {Runtime} runtime @param {string[]} program @param {string} folder @param {Io} io
 */
async function passed(runtime, program, folder, io) {
  let text = ''
  const output = (/** @type {string} */ chunk) => {
    text += chunk
    io.output(chunk)
  }
  const bus = join(folder, 'bus')
  // Without colours, which would stand within the counts of a test runner.
  const env = { NODE_OPTIONS: undefined, NO_COLOR: '1', FORCE_COLOR: undefined, ...runtime.env, IPC_BUS_DIR: bus }
  const code = await run([...runtime.command, ...program], { cwd: folder, env, output, silence: SILENCE })
  rmSync(bus, { recursive: true, force: true })
  const last = /^.*\b(\d+ passed)(?:, 0 failed)?\b.*$/m.exec(text)?.[1]
  if (code !== 0 || last === undefined) throw new Error(`exit code ${code}: ${text.trim().split('\n').at(-1) ?? ''}`)
  return last
}

/** @param {string} group @param {string} name @param {string} what @param {Name} machine @param {(io: Io) => Promise<Runtime>} runtime */
const features = (group, name, what, machine, runtime) => ({
  group,
  name,
  what,
  run: async (/** @type {Io} */ io) => {
    const on = await runtime(io)
    return passed(on, [FEATURES], await projectFor(machine, io), io)
  },
})

/** @param {string} name @param {string} what @param {Name} machine @param {(io: Io) => Promise<Runtime>} runtime @param {string[]} [files] */
const ava = (name, what, machine, runtime, files = []) => ({
  group: 'ava',
  name,
  what,
  run: async (/** @type {Io} */ io) => {
    const { command, env } = await runtime(io)
    await registryWith(machine, io)
    let text = ''
    const output = (/** @type {string} */ chunk) => {
      text += chunk
      io.output(chunk)
    }
    const tests = [...command, join(ROOT, 'node_modules/ava/entrypoints/cli.mjs'), ...files]
    const binary = { NAPI_RS_NATIVE_LIBRARY_PATH: binaryOf(machine) }
    const code = await run(tests, { output, silence: SILENCE, env: { ...env, ...binary, FORCE_COLOR: '0' } })
    const outcome = avaOutcome(text, code)
    const counts = `${outcome.passed} passed, ${outcome.failed} failed, ${outcome.skipped} skipped`
    if (outcome.failed > 0) throw new Error(counts)
    return counts
  },
})

/** @param {string} name @param {string} what @param {(io: Io) => Promise<{ install: string[], env?: Record<string, string>, start?: string[] }>} tool */
const installed = (name, what, tool) => ({
  group: 'installers',
  name,
  what,
  run: async (/** @type {Io} */ io) => {
    const { install, env = {}, start = [process.execPath] } = await tool(io)
    const folder = await project(name, install, io, { env })
    return passed({ command: start, env }, [FEATURES], folder, io)
  },
})

/** @param {Io} io @param {string} wanted @param {string} file in its package */
const program = async (io, wanted, file) => [process.execPath, join(await installer(wanted, io), 'node_modules', file)]

/** yarn 4. @param {string} linker */
const yarn4 = (linker) =>
  installed(`yarn-4-${linker}`, `yarn 4, nodeLinker ${linker}`, async (io) => {
    const yarn = await program(io, '@yarnpkg/cli-dist@4.12.0', '@yarnpkg/cli-dist/bin/yarn.js')
    return { install: [...yarn, 'install'], env: { YARN_NODE_LINKER: linker }, start: [...yarn, 'node'] }
  })

/** @type {string | undefined} */
let tools
/** The project with the bundlers and test runners. @param {Io} io */
async function toolProject(io) {
  return (tools ??= await project('tools', npm(['install', '--no-audit', '--no-fund', '--loglevel=error']), io, {
    tools: true,
  }))
}

/** @param {string} group @param {string} name @param {string} what @param {(folder: string, io: Io) => Promise<string>} act @returns {Row} */
const tool = (group, name, what, act) => ({ group, name, what, run: async (io) => act(await toolProject(io), io) })

/** @type {Row[]} */
export const ROWS = [
  ...NODES.map((version) =>
    features('nodes', `node-${version}`, `Node ${version}, glibc`, HERE, (io) => node(version, io)),
  ),
  features('musl', 'musl-x64', 'Node 24, x64, musl', 'linux-x64-musl', (io) => nodeMusl('x64', io)),
  features('arm64', 'arm64-gnu-20', 'Node 20, arm64, glibc, by qemu', 'linux-arm64-gnu', (io) =>
    nodeArm64('20.19.0', io),
  ),
  features('arm64', 'arm64-gnu-24', 'Node 24, arm64, glibc, by qemu', 'linux-arm64-gnu', (io) =>
    nodeArm64('24.22.3', io),
  ),
  features('arm64', 'arm64-musl', 'Node 24, arm64, musl, by qemu', 'linux-arm64-musl', (io) => nodeMusl('arm64', io)),
  features('runtimes', 'bun', 'Bun', HERE, bun),
  features('runtimes', 'deno', 'Deno', HERE, deno),
  installed('npm', 'npm', async () => ({ install: NPM_INSTALL })),
  installed('pnpm', 'pnpm', async (io) => ({
    install: [...(await program(io, 'pnpm@10.26.0', 'pnpm/bin/pnpm.cjs')), 'install'],
  })),
  installed('yarn-1', 'yarn 1', async (io) => ({
    install: [...(await program(io, 'yarn@1.22.22', 'yarn/bin/yarn.js')), 'install'],
  })),
  yarn4('node-modules'),
  yarn4('pnp'),
  installed('bun-install', 'bun install', async (io) => ({ install: [...(await bun(io)).command, 'install'] })),
  tool('bundlers', 'esbuild', 'esbuild, ringbell external', async (folder, io) => {
    const flags = ['--bundle', '--platform=node', '--format=esm', '--external:ringbell', '--outfile=esbuilt.mjs']
    await must([join(folder, 'node_modules/.bin/esbuild'), FEATURES, ...flags], { ...io, cwd: folder })
    return passed(THIS_NODE, ['esbuilt.mjs'], folder, io)
  }),
  tool('bundlers', 'webpack', 'webpack, ringbell external', async (folder, io) => {
    await must([process.execPath, 'webpack.mjs'], { ...io, cwd: folder })
    return passed(THIS_NODE, ['webpacked.mjs'], folder, io)
  }),
  tool('bundlers', 'nft', 'files traced by @vercel/nft', async (folder, io) => {
    await must([process.execPath, 'trace.mjs'], { ...io, cwd: folder })
    return passed(THIS_NODE, [FEATURES], join(folder, 'traced'), io)
  }),
  tool('runners', 'vitest', 'Vitest', (folder, io) => {
    const vitest = [join(folder, 'node_modules/vitest/vitest.mjs'), 'run', '--globals', 'message.test.mjs']
    return passed(THIS_NODE, vitest, folder, io)
  }),
  tool('runners', 'jest', 'Jest, ESM mode', (folder, io) => {
    const flags = ['--testMatch', '**/message.test.mjs', '--transform', '{}']
    const jest = ['--experimental-vm-modules', join(folder, 'node_modules/jest/bin/jest.js'), ...flags]
    return passed(THIS_NODE, jest, folder, io)
  }),
  tool('runners', 'tsx', 'tsx', (folder, io) => passed(THIS_NODE, ['--import=tsx', 'message.ts'], folder, io)),
  tool('runners', 'strip-types', 'Node 22 --experimental-strip-types', async (folder, io) =>
    passed(await node('22.23.5', io), ['--experimental-strip-types', 'message.ts'], folder, io),
  ),
  ...NODES.map((version) =>
    ava(`ava-${version}`, `the tests of this clone on Node ${version}`, HERE, (io) => node(version, io)),
  ),
  ava(
    'ava-musl-x64',
    'unit, acquisition and channel tests, x64, musl',
    'linux-x64-musl',
    (io) => nodeMusl('x64', io),
    PARTS,
  ),
]
