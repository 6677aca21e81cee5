// @ts-check
/**
 * The stages of `npm test`, in order. A stage has a name for `--only`, and steps. A step is a command with a way to
 * read its outcome, or a function that throws. The stages share Cargo's target folder, so that nothing is built twice. loom
 * has a folder of its own, because its flags change every crate.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { glibcProblems } from './check-glibc.mjs'
import { readElf } from './elf.mjs'
import { nativeFile } from './native.mjs'
import { cargoOutcome, checkOutcome, tapOutcome } from './outcome.mjs'
import { pack } from './pack.mjs'
import { ROOT, TARGET } from './project.mjs'
import { setup } from './setup.mjs'
import { tryPackage } from './try-package.mjs'

/** @typedef {(text: string, code: number) => import('./outcome.mjs').Outcome} Reader */
/**
 * @typedef {object} Step
 * @property {string} name
 * @property {readonly string[]} [command]
 * @property {(say: (chunk: string) => void) => Promise<void>} [action] instead of a command
 * @property {Record<string, string | undefined>} [env]
 * @property {Reader} [read]
 * @property {number} [minutes] the watchdog, 8 by default
 */
/** @typedef {{ name: string, steps: () => Step[] }} Stage */

const NODE = process.execPath
/** @param {string} path */
const tool = (path) => join(ROOT, 'node_modules', path)
/** @param {string} name @param {string[]} command @returns {Step} */
const check = (name, command) => ({ name, command, read: checkOutcome })
/** @param {string[]} files */
const ava = (files) => [NODE, tool('ava/entrypoints/cli.mjs'), '--tap', ...files]
const oldsys = join(TARGET, 'debug/oldsys')

/** The suite that every rung must pass, on Node's side. ava fails if the pattern finds no file. */
const ACQUISITION = ['__test__/integration/acquisition*.test.ts']
/** The suite of channels, which choose between shared memory and streams by themselves. */
const CHANNELS = ['__test__/integration/channel.test.ts']
/** What other users get from topics and channels. */
const ACCESS = ['__test__/integration/access.test.ts', '__test__/integration/access-channels.test.ts']

/**
 * The shared suites again: where the kernel answers differently, and with each fallback forced. These variables tell them
 * what to expect: RINGBELL_TEST_SYSCALLS (the table), RINGBELL_TEST_RUNG (the best possible rung), IPC_BUS_ACQUIRE
 * and IPC_BUS_WATCH.
 * @returns {Step[]}
 */
function rungs() {
  const topics = ['cargo', 'test', '-p', 'ringbell', '--no-fail-fast', '--test', 'topic_stream']
  // Run everything where the rung of everything changes. Run only the acquisition suites where only acquisition changes.
  const everything = {
    rust: [...topics, '--test', 'topic_acks', '--test', 'channel'],
    node: ava([...ACQUISITION, ...CHANNELS, ...ACCESS]),
  }
  const acquisition = { rust: topics, node: ava(ACQUISITION) }
  const registry = ['cargo', 'test', '-p', 'ringbell', '--no-fail-fast', '--test', 'bus_watch', '--test', 'bus_publish']
  // This test compares both ways by itself, so it cannot run with one of them forced.
  registry.push('--', '--skip', 'inotify_and_polling_see_the_same')
  // These tables have no pidfd_getfd, so no direct rung. Without memfd_create (319) there is no shared memory either.
  const tables = [
    { table: '5.4', rung: 'handshake', suites: everything },
    { table: 'docker', rung: 'handshake', suites: acquisition },
    { table: 'docker-strict', rung: 'handshake', suites: acquisition },
    { table: '319=1', rung: 'stream', suites: everything },
  ].map(({ table, rung, suites }) => ({
    table,
    suites,
    env: { RINGBELL_TEST_SYSCALLS: table, RINGBELL_TEST_RUNG: rung },
  }))
  const forced = [
    { rung: 'handshake', suites: acquisition },
    { rung: 'stream', suites: everything },
  ].map(({ rung, suites }) => ({ rung, suites, env: { IPC_BUS_ACQUIRE: rung, RINGBELL_TEST_RUNG: rung } }))
  const polling = { IPC_BUS_WATCH: 'poll' }
  return [
    check('oldsys', ['cargo', 'build', '-p', 'oldsys']),
    ...tables.flatMap(({ table, suites, env }) => [
      { name: `${table}: Rust`, command: [oldsys, table, ...suites.rust], env, read: cargoOutcome },
      { name: `${table}: Node`, command: [oldsys, table, ...suites.node], env, read: tapOutcome },
    ]),
    ...forced.flatMap(({ rung, suites, env }) => [
      { name: `${rung} forced: Rust`, command: suites.rust, env, read: cargoOutcome },
      { name: `${rung} forced: Node`, command: suites.node, env, read: tapOutcome },
    ]),
    { name: 'polling forced: Rust', command: registry, env: polling, read: cargoOutcome },
    { name: 'polling forced: Node', command: ava(ACQUISITION), env: polling, read: tapOutcome },
  ]
}

/** @type {Stage[]} */
export const STAGES = [
  {
    name: 'build',
    steps: () => [
      { name: 'packages, portable binding, dist; generated files are current', action: build, minutes: 15 },
    ],
  },
  {
    name: 'lint',
    steps: () => [
      check('layers', [NODE, 'scripts/check-layers.mjs']),
      check('rustfmt', ['cargo', 'fmt', '--all', '--check']),
      check('clippy', ['cargo', 'clippy', '--workspace', '--all-targets', '--', '-D', 'warnings']),
      { ...check('rustdoc', ['cargo', 'doc', '--workspace', '--no-deps']), env: { RUSTDOCFLAGS: '-D warnings' } },
      check('oxlint', [NODE, tool('oxlint/bin/oxlint'), '--type-aware', '--deny-warnings']),
      check('API reference', [NODE, 'scripts/docs.mjs']),
      check('prettier', [NODE, tool('prettier/bin/prettier.cjs'), '--check', '--log-level', 'warn', '.']),
    ],
  },
  {
    name: 'types',
    steps: () => [check('tsc', [NODE, tool('typescript/bin/tsc'), '-p', 'tsconfig.json'])],
  },
  {
    name: 'rust',
    steps: () => [
      {
        name: 'unit, property, integration, doc tests',
        // Tests of the binding would need Node's symbols, so it is tested from Node.
        command: ['cargo', 'test', '--workspace', '--exclude', 'ringbell-node', '--no-fail-fast'],
        read: cargoOutcome,
      },
    ],
  },
  {
    name: 'loom',
    steps: () => [
      {
        name: 'models',
        command: ['cargo', 'test', '-p', 'ringbell-ring', '--profile', 'model', '--no-fail-fast', '--test', 'loom_*'],
        env: { RUSTFLAGS: '--cfg loom', CARGO_TARGET_DIR: join(TARGET, 'loom') },
        read: cargoOutcome,
      },
    ],
  },
  { name: 'node', steps: () => [{ name: 'ava', command: ava([]), read: tapOutcome }] },
  { name: 'rungs', steps: rungs },
  {
    name: 'package',
    steps: () => [
      { name: 'glibc 2.31', action: portable },
      { name: 'pack', action: packed },
      check('publint', [NODE, tool('publint/src/cli.js'), '--strict', join(TARGET, 'package/ringbell')]),
      check('types resolve', [NODE, tool('@arethetypeswrong/cli/dist/index.js'), '--profile', 'esm-only', tarball()]),
      { name: 'used from an empty folder, without Rust', action: (say) => tryPackage(made(), say) },
    ],
  },
]

/** @type {Awaited<ReturnType<typeof pack>> | undefined} */
let tarballs

function made() {
  if (tarballs === undefined) throw new Error('there are no tarballs: packing failed')
  return tarballs
}

function tarball() {
  const { name, version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'))
  return join(TARGET, 'tarballs', `${name}-${version}.tgz`)
}

/** @param {(chunk: string) => void} say */
async function build(say) {
  const changed = await setup({ portable: true, output: say })
  if (changed.length > 0)
    throw new Error(`not what the sources generate (written now, commit it): native/${changed.join(', native/')}`)
}

/**
 * Only x64 has a linker for an old glibc here. On other machines a developer's binary may need this machine's glibc; a
 * release's may not.
 * @param {(chunk: string) => void} say
 */
async function portable(say) {
  const elf = readElf(readFileSync(join(ROOT, nativeFile())))
  const must = nativeFile().endsWith('-x64-gnu.node') || process.env['RINGBELL_RELEASE'] === '1'
  const problems = nativeFile().includes('-gnu') ? glibcProblems(elf) : []
  if (!must)
    for (const problem of problems.splice(0))
      say(`not fit for a release, built with this machine's glibc: ${problem}\n`)
  if (elf.machine !== process.arch) problems.push(`made for ${elf.machine}`)
  if (problems.length > 0) throw new Error(`${nativeFile()}: ${problems.join('; ')}`)
}

/** @param {(chunk: string) => void} say */
async function packed(say) {
  tarballs = await pack({ output: say })
}
