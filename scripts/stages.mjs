// @ts-check
/**
 * The stages of `npm test`, in order. A stage has a name for `--only`, and steps. A step is a command with a way to
 * read its outcome, or a function that throws. Steps that mostly wait, or keep one core busy, run side by side in lanes. The
 * stages share Cargo's target folder, so that nothing is built twice. loom has a folder of its own, because its flags
 * change every crate. Compiling and installing are steps of their own, without a watchdog.
 */
import { existsSync, readFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { glibcProblems } from './check-glibc.mjs'
import { readElf } from './elf.mjs'
import { buildNative, nativeFile } from './native.mjs'
import { avaFailures, avaOutcome, cargoFailures, cargoOutcome, checkOutcome } from './outcome.mjs'
import { pack } from './pack.mjs'
import { ROOT, TARGET } from './project.mjs'
import {
  ensureDist,
  ensureDocsPackages,
  ensureOlderTypeScript,
  ensurePackages,
  ensureTools,
  OLDER_TYPESCRIPT,
} from './setup.mjs'
import { tryPackage } from './try-package.mjs'

/** @typedef {(text: string, code: number) => import('./outcome.mjs').Outcome} Reader */
/**
 * The command that runs the tests that failed once more, one at a time. `undefined`: the output does not name them.
 * @typedef {(text: string) => string[] | undefined} Again
 */
/**
 * @typedef {object} Step
 * @property {string} name
 * @property {readonly string[]} [command]
 * @property {(say: (chunk: string) => void) => Promise<void>} [action] instead of a command
 * @property {Record<string, string | undefined>} [env]
 * @property {Reader} [read]
 * @property {string} [lane] it runs beside its neighbours of other lanes (lanes.mjs)
 * @property {Again} [again]
 * @property {boolean} [hangs] it runs tests, which can hang: it has a watchdog (`SILENCE` in project.mjs)
 */
/** @typedef {{ name: string, steps: () => Step[] }} Stage */

const NODE = process.execPath
/** @param {string} path */
const tool = (path) => join(ROOT, 'node_modules', path)
const AVA = [NODE, tool('ava/entrypoints/cli.mjs')]
/** @typedef {Record<string, string | undefined>} Env */
/** @param {string} name @param {string[]} command @param {Env} [env] @returns {Step} */
const check = (name, command, env = {}) => ({ name, command, env, read: checkOutcome })
/** Rust's tests, compiled. @param {string[]} flags @param {Env} [env] */
const compiled = (flags, env) => check('compiled', ['cargo', 'test', ...flags, '--no-run'], env)
/** @param {string} name @param {string[]} flags @param {Env} [env] @param {string[]} [only] @returns {Step} */
const rustTests = (name, flags, env = {}, only = []) => {
  const test = ['cargo', 'test', ...flags, '--no-fail-fast']
  const command = [...test, ...(only.length > 0 ? ['--', ...only] : [])]
  /** @type {Again} */
  const again = (text) => {
    const failed = cargoFailures(text)
    return failed.length > 0 ? [...test, '--', '--test-threads=1', '--exact', ...failed] : undefined
  }
  return { name, command, env: { ...CROWDED, ...env }, read: cargoOutcome, again, hangs: true }
}
/** @param {string} name @param {string[]} files @param {Env} [env] @returns {Step} */
const nodeTests = (name, files, env = {}) => {
  /** @type {Again} */
  const again = (text) => {
    const named = avaFailures(text, (file) => existsSync(join(ROOT, file)))
    const failed = named.length > 0 ? named : files
    return failed.length > 0 ? [...AVA, '--concurrency=1', ...failed] : undefined
  }
  return { name, command: [...AVA, ...files], env, read: avaOutcome, again, hangs: true }
}
/** @param {string} lane @param {Step[]} steps @returns {Step[]} */
const inLane = (lane, steps) => steps.map((step) => ({ ...step, lane }))
/** The same under a table of oldsys. @param {string} table @param {Step} step @returns {Step} */
const under = (table, step) => {
  const { command = [], again } = step
  /** @type {Again} */
  const both = (text) => {
    const inner = again?.(text)
    return inner && [oldsys, table, ...inner]
  }
  return { ...step, command: [oldsys, table, ...command], again: both }
}
const oldsys = join(TARGET, 'debug/oldsys')

/** The suite that every rung must pass, on Node's side. ava fails if the pattern finds no file. */
const ACQUISITION = ['__test__/integration/acquisition*.test.ts']
/** The suite of channels, which choose between shared memory and streams by themselves. */
const CHANNELS = ['__test__/integration/channel.test.ts']
/** What other users get from topics and channels. */
const ACCESS = ['__test__/integration/access.test.ts', '__test__/integration/access-channels.test.ts']

/** Processes are held without pidfds. */
const NO_PIDFD = 'pidfd_open=EPERM'

// Tests of the binding would need Node's symbols, so it is tested from Node.
const WORKSPACE = ['--workspace', '--exclude', 'ringbell-node']
const MODELS = {
  flags: ['-p', 'ringbell-ring', '--profile', 'model', '--test', 'loom'],
  env: { RUSTFLAGS: '--cfg loom', CARGO_TARGET_DIR: join(TARGET, 'loom') },
}
/** More tests at once than there are cores, because most of them wait most of the time. */
const CROWDED = { RUST_TEST_THREADS: String(2 * availableParallelism()) }
/** The tests of the core from outside. */
const CORE = ['-p', 'ringbell', '--test', 'it']
/** Those of some of its files. @param {string[]} files */
const testsOf = (files) => files.map((file) => `${file}::`)

/** The published types as users read them. @param {string} version @param {string} tsc @returns {Step[]} */
function publishedTypes(version, tsc) {
  const project = [NODE, tsc, '-p', '__test__/types/published.json', '--skipLibCheck']
  return [
    check(`published types: ${version}`, [...project, 'false']),
    check(`published types: ${version}, skipLibCheck`, [...project, 'true']),
  ]
}

/**
 * The shared suites again: where the kernel answers differently, and with each fallback forced. These variables tell them
 * what to expect: RINGBELL_TEST_SYSCALLS (the table), RINGBELL_TEST_RUNG (the best possible rung), IPC_BUS_ACQUIRE
 * and IPC_BUS_WATCH.
 * @returns {Step[]}
 */
function rungs() {
  // Run everything where the rung of everything changes. Run only the acquisition suites where only acquisition changes.
  const everything = { rust: ['topic_stream', 'topic_acks', 'channel'], node: [...ACQUISITION, ...CHANNELS, ...ACCESS] }
  const acquisition = { rust: ['topic_stream'], node: ACQUISITION }
  // These tables have no pidfd_getfd, so no direct rung. Without memfd_create there is no shared memory either.
  const tables = [
    { table: '5.4', rung: 'handshake', suites: everything },
    { table: 'docker', rung: 'handshake', suites: acquisition },
    { table: 'docker-strict', rung: 'handshake', suites: acquisition },
    { table: 'memfd_create=EPERM', rung: 'stream', suites: everything },
  ]
  const forced = [
    { rung: 'handshake', suites: acquisition },
    { rung: 'stream', suites: everything },
  ]
  const registry = { rust: ['bus_watch', 'bus_publish'], node: ACQUISITION }
  // This test compares both ways by itself, so it cannot run with one of them forced.
  const skipped = ['--skip', 'inotify_and_polling_see_the_same']
  const polling = { IPC_BUS_WATCH: 'poll' }
  /** @param {string} name @param {{ rust: string[], node: string[] }} suites @param {Env} env @param {string[]} [more] */
  const both = (name, suites, env, more = []) => [
    rustTests(`${name}: Rust`, CORE, env, [...testsOf(suites.rust), ...more]),
    nodeTests(`${name}: Node`, suites.node, env),
  ]
  const tests = [
    ...tables.map(({ table, rung, suites }) =>
      both(table, suites, { RINGBELL_TEST_SYSCALLS: table, RINGBELL_TEST_RUNG: rung }).map((step) =>
        under(table, step),
      ),
    ),
    ...forced.map(({ rung, suites }) =>
      both(`${rung} forced`, suites, { IPC_BUS_ACQUIRE: rung, RINGBELL_TEST_RUNG: rung }),
    ),
    both('polling forced', registry, polling, skipped),
    [
      under(
        NO_PIDFD,
        nodeTests(`${NO_PIDFD}: Node`, ['__test__/integration/supervise/process.test.ts'], {
          RINGBELL_TEST_SYSCALLS: NO_PIDFD,
        }),
      ),
    ],
  ]
  return [
    check('oldsys', ['cargo', 'build', '-p', 'oldsys']),
    compiled(CORE),
    ...tests.flatMap((steps, index) => inLane(index % 2 === 0 ? 'even' : 'odd', steps)),
  ]
}

/** @type {Stage[]} */
export const STAGES = [
  {
    name: 'build',
    steps: () => [
      { name: 'packages', action: packages },
      { name: 'portable binding; generated files are current', action: build },
      { name: 'dist', action: (say) => ensureDist({ output: say }) },
    ],
  },
  {
    name: 'lint',
    steps: () => [
      ...inLane('Rust', [
        check('rustfmt', ['cargo', 'fmt', '--all', '--check']),
        check('clippy', ['cargo', 'clippy', '--workspace', '--all-targets', '--', '-D', 'warnings']),
        check('rustdoc', ['cargo', 'doc', '--workspace', '--no-deps'], { RUSTDOCFLAGS: '-D warnings' }),
      ]),
      ...inLane('JavaScript', [
        check('layers', [NODE, 'scripts/check-layers.mjs']),
        check('oxlint', [NODE, tool('oxlint/bin/oxlint'), '--type-aware', '--deny-warnings']),
        check('API reference', [NODE, 'scripts/docs.mjs']),
        check('prettier', [NODE, tool('prettier/bin/prettier.cjs'), '--check', '--log-level', 'warn', '.']),
      ]),
    ],
  },
  {
    name: 'types',
    steps: () => [
      check('tsc', [NODE, tool('typescript/bin/tsc'), '-p', 'tsconfig.json']),
      ...publishedTypes('this TypeScript', tool('typescript/bin/tsc')),
      { name: 'older TypeScript', action: (say) => ensureOlderTypeScript({ output: say }) },
      ...['5.0', '5.6'].flatMap((version) =>
        inLane(
          version,
          publishedTypes(version, join(ROOT, OLDER_TYPESCRIPT, `node_modules/typescript-${version}/bin/tsc`)),
        ),
      ),
    ],
  },
  {
    name: 'rust',
    steps: () => [
      compiled(WORKSPACE),
      // Together these are all that `cargo test` runs.
      ...inLane('outside', [rustTests('property and integration tests', [...WORKSPACE, '--test', '*'])]),
      ...inLane('inside', [
        rustTests('unit tests', [...WORKSPACE, '--lib', '--bins']),
        rustTests('doc tests', [...WORKSPACE, '--doc']),
      ]),
    ],
  },
  {
    name: 'loom',
    steps: () => [compiled(MODELS.flags, MODELS.env), rustTests('models', MODELS.flags, MODELS.env)],
  },
  {
    name: 'node',
    steps: () => [
      { name: 'packages of the guide', action: (say) => ensureDocsPackages({ output: say }) },
      nodeTests('ava', []),
    ],
  },
  { name: 'rungs', steps: rungs },
  {
    name: 'package',
    steps: () => [
      { name: 'glibc 2.31', action: portable },
      { name: 'pack', action: packed },
      ...inLane('read', [
        check('publint', [NODE, tool('publint/src/cli.js'), '--strict', join(TARGET, 'package/ringbell')]),
        check('types resolve', [NODE, tool('@arethetypeswrong/cli/dist/index.js'), '--profile', 'esm-only', tarball()]),
      ]),
      ...inLane('used', [
        { name: 'used from an empty folder, without Rust', action: (say) => tryPackage(made(), say) },
      ]),
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
async function packages(say) {
  ensureTools()
  await ensurePackages({ output: say })
}

/** @param {(chunk: string) => void} say */
async function build(say) {
  const changed = await buildNative({ portable: true, output: say })
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
