// @ts-check
/**
 * The paths of the project, the kind of this machine, and how to run a command. Every other script imports this.
 * It uses only Node's builtins: the scripts run on a fresh clone, before anything is installed.
 */
import { spawn } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { delimiter, dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'

export const ROOT = resolve(dirname(fileURLToPath(import.meta.url)), '..')

/** Cargo's target folder, also if the caller moved it. */
export const TARGET = resolve(ROOT, process.env['CARGO_TARGET_DIR'] ?? 'target')

/** The four machines with a prebuilt binary: napi's platform name → Rust's triple. */
export const TARGETS = {
  'linux-x64-gnu': 'x86_64-unknown-linux-gnu',
  'linux-x64-musl': 'x86_64-unknown-linux-musl',
  'linux-arm64-gnu': 'aarch64-unknown-linux-gnu',
  'linux-arm64-musl': 'aarch64-unknown-linux-musl',
}

/** This machine as napi names it, e.g. `linux-x64-gnu`. The binding is loaded by the same name (src/native.ts). */
export function platform() {
  const glibc = /\/libc(\.so\.6|-2\.\d+\.so)$/m.test(readFileSync('/proc/self/maps', 'latin1'))
  return `${process.platform}-${process.arch}-${glibc ? 'gnu' : 'musl'}`
}

/** @param {string} path from the root of the repository */
export function readJson(path) {
  return JSON.parse(readFileSync(join(ROOT, path), 'utf8'))
}

/** @param {string} program @param {string} path a PATH */
export function onPath(program, path = process.env['PATH'] ?? '') {
  return path.split(delimiter).some((folder) => folder !== '' && existsSync(join(folder, program)))
}

/** npm as `node npm-cli.js`, so that it works with a PATH that has no npm. @param {string[]} args */
export function npm(args) {
  const beside = join(dirname(process.execPath), '..', 'lib', 'node_modules', 'npm', 'bin', 'npm-cli.js')
  const cli = [process.env['npm_execpath'] ?? '', beside].find(
    (path) => path.endsWith('npm-cli.js') && existsSync(path),
  )
  return cli === undefined ? ['npm', ...args] : [process.execPath, cli, ...args]
}

/**
 * The watchdog of commands that run tests: milliseconds without any output. It does not limit the time of a command,
 * because a slow machine must not fail. Single tests have a shorter one (__test__/helpers/patience.ts). Commands that
 * compile or download have none.
 */
export const SILENCE = 20 * 60_000

/**
 * @typedef {object} RunOptions
 * @property {string} [cwd]
 * @property {Record<string, string | undefined>} [env] added to ours; undefined removes a variable
 * @property {number} [silence] milliseconds without output after which the whole process group is killed; needs `output`
 * @property {(chunk: string) => void} [output] gets stdout and stderr. Without it both are inherited
 */

/** Process groups that are running, so that Ctrl-C can end them, too. */
const groups = new Set()
for (const signal of /** @type {const} */ (['SIGINT', 'SIGTERM'])) {
  process.once(signal, () => {
    for (const group of groups) killGroup(group)
    process.kill(process.pid, signal)
  })
}

/**
 * Runs a command to its end and returns its exit code: 124 if the watchdog stopped it, 127 if it could not start.
 * @param {readonly string[]} command @param {RunOptions} [options] @returns {Promise<number>}
 */
export function run(command, options = {}) {
  const [program = '', ...args] = command
  const piped = options.output !== undefined
  return new Promise((done) => {
    const child = spawn(program, args, {
      cwd: options.cwd ?? ROOT,
      env: { ...process.env, ...options.env },
      stdio: ['ignore', piped ? 'pipe' : 'inherit', piped ? 'pipe' : 'inherit'],
      detached: true,
    })
    const group = child.pid
    if (group !== undefined) groups.add(group)
    let stopped = false
    const watchdog = options.silence === undefined ? undefined : setTimeout(bark, options.silence)
    function bark() {
      stopped = true
      killGroup(group)
    }
    const say = options.output ?? ((/** @type {string} */ text) => void process.stderr.write(text))
    for (const stream of [child.stdout, child.stderr])
      stream?.setEncoding('utf8').on('data', (/** @type {string} */ chunk) => {
        watchdog?.refresh()
        say(chunk)
      })
    child.once('error', (error) => {
      clearTimeout(watchdog)
      say(`${program}: ${error.message}\n`)
      done(127)
    })
    child.once('close', (code) => {
      clearTimeout(watchdog)
      groups.delete(group)
      if (stopped) say(`\n${program} was stopped: it said nothing for ${(options.silence ?? 0) / 1000} s\n`)
      done(stopped ? 124 : (code ?? 1))
    })
  })
}

/** @param {number | undefined} group */
function killGroup(group) {
  if (group === undefined) return
  try {
    process.kill(-group, 'SIGKILL')
  } catch {
    // gone already
  }
}

/** Like `run`, but a failure ends this script. @param {readonly string[]} command @param {RunOptions} [options] */
export async function must(command, options) {
  const code = await run(command, options)
  if (code !== 0) throw new Error(`${command.join(' ')}: exit code ${code}`)
}

/** @param {number} from of performance.now() */
export const secondsSince = (from) => `${((performance.now() - from) / 1000).toFixed(1)} s`

/**
 * Runs an action that takes minutes: announces it before, and says afterwards how long it took.
 * @template T @param {string} what @param {() => Promise<T>} action @param {RunOptions} [options] @returns {Promise<T>}
 */
export async function announced(what, action, options = {}) {
  const say = options.output ?? ((/** @type {string} */ text) => void process.stderr.write(text))
  const from = performance.now()
  say(`${what} …\n`)
  const result = await action()
  say(`${what}: ${secondsSince(from)}\n`)
  return result
}

/** Runs a script's main function; an error becomes one line and exit code 1. @param {() => Promise<number | void>} main */
export async function script(main) {
  try {
    process.exitCode = (await main()) ?? 0
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`)
    process.exitCode = 1
  }
}

/** Is this module the program that was started? @param {string} url its `import.meta.url` */
export function isMain(url) {
  return process.argv[1] !== undefined && fileURLToPath(url) === resolve(process.argv[1])
}
