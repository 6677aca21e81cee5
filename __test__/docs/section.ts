/**
 * Runs what stands in one section of a page, in a folder and on a bus of its own. Its programs run together; when they
 * have printed what the section says, its shell commands run one after another, and then everything is ended.
 */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, writeFileSync } from 'node:fs'
import { basename, delimiter, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseAllDocuments } from 'yaml'
import { PATIENCE_MS } from '../helpers/patience.js'
import { Expectation, type Block, type Section } from './markdown.js'

const TSX = import.meta.resolve('tsx')

/** A program: the blocks of a section that have the same file name, or none. */
interface Source {
  readonly name: string
  readonly block: Block
  code: string
  prints?: Expectation
}

class Program {
  output = ''
  readonly #source: Source
  readonly #child: ChildProcess
  readonly #end: Promise<unknown>
  #stderr = ''
  #watchdog = false

  constructor(source: Source, folder: string, env: NodeJS.ProcessEnv) {
    this.#source = source
    const [command = '', ...args] = commandOf(source)
    // A process group of its own, so that its children end with it.
    this.#child = spawn(command, args, { cwd: folder, env, stdio: ['ignore', 'pipe', 'pipe'], detached: true })
    this.#child.stdout?.setEncoding('utf8').on('data', (text: string) => (this.output += text))
    this.#child.stderr?.setEncoding('utf8').on('data', (text: string) => (this.#stderr += text))
    const timer = setTimeout(() => {
      this.#watchdog = true
      void this.kill()
    }, PATIENCE_MS)
    this.#end = once(this.#child, 'close').then(() => clearTimeout(timer))
  }

  get prints(): Expectation | undefined {
    return this.#source.prints
  }

  /** Resolves when it has printed what its page says, and has ended unless the page says that it goes on. */
  async finish(): Promise<void> {
    const { prints } = this
    if (prints?.goesOn !== true) await this.#end
    else await Promise.race([this.#end, this.#shows(prints)])
    this.check()
    if (prints !== undefined && !prints.isMetBy(this.output))
      throw this.#problem(`should have printed:\n${prints.text}`)
  }

  /** Throws when it has ended in another way than its page says. */
  check(): void {
    const { exitCode, signalCode } = this.#child
    if (exitCode === null && signalCode === null) return
    if (this.#watchdog)
      throw this.#problem(`was still running after ${PATIENCE_MS} ms; expected:\n${this.prints?.text}`)
    const expected = this.#source.block.options.get('exit') ?? '0'
    const ended = signalCode ?? String(exitCode)
    if (ended !== expected) throw this.#problem(`ended with ${ended} instead of ${expected}`)
  }

  async kill(): Promise<void> {
    try {
      if (this.#child.pid !== undefined) process.kill(-this.#child.pid, 'SIGKILL')
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
    }
    await this.#end
  }

  #shows(expected: Expectation): Promise<void> {
    return new Promise((done) => {
      const look = (): void => {
        if (expected.isMetBy(this.output)) done()
      }
      this.#child.stdout?.on('data', look)
      look()
    })
  }

  #problem(what: string): Error {
    const { name, block } = this.#source
    return new Error(`${block.at}: ${name} ${what}\nIt printed:\n${this.output}\nand on stderr:\n${this.#stderr}`)
  }
}

function commandOf({ name, block, code }: Source): string[] {
  if (block.language === 'sh') return ['bash', '-euo', 'pipefail', '-c', code]
  if (block.language === 'python') return ['python3', name]
  if (block.language === 'rust') return [join(EXAMPLES, basename(name, '.rs'))]
  return [process.execPath, ...(block.language === 'ts' ? ['--import', TSX] : []), name]
}

const PROGRAMS = new Map([
  ['js', 'section.mjs'],
  ['ts', 'section.ts'],
  ['python', 'section.py'],
  ['sh', 'section.sh'],
])

/** Where cargo puts the examples of the crate `ringbell`. Rust with a file name is one of them. */
export const EXAMPLES = fileURLToPath(new URL('../../target/debug/examples/', import.meta.url))

/** What is no program is checked by itself; `folder` has the block's file, if it has a name. */
const CHECKS: Record<string, (block: Block, folder: string) => void> = {
  json: ({ code }) => void JSON.parse(code),
  yaml({ code, at }) {
    for (const { errors } of parseAllDocuments(code))
      if (errors.length > 0) throw new Error(`${at}: ${errors.join('\n')}`)
  },
  dockerfile({ code, at }) {
    const known =
      /^(ARG|CMD|COPY|ENTRYPOINT|ENV|EXPOSE|FROM|HEALTHCHECK|LABEL|RUN|SHELL|STOPSIGNAL|USER|VOLUME|WORKDIR) \S/
    const wrong = code
      .replace(/\\\n/g, ' ')
      .split('\n')
      .find((line) => !/^(\s*|#.*)$/.test(line) && !known.test(line))
    if (wrong !== undefined) throw new Error(`${at}: no instruction of a Dockerfile: ${wrong}`)
  },
  ini({ code, at, options }, folder) {
    const wrong = code.split('\n').find((line) => !/^(\s*|[#;].*|\[[\w.-]+\]|[\w-]+ ?=.*)$/.test(line))
    if (wrong !== undefined) throw new Error(`${at}: neither a section nor a setting: ${wrong}`)
    const file = options.get('file') ?? ''
    if (!/\.(service|socket|slice|target|timer|path)$/.test(file)) return
    const { error, stderr } = spawnSync('systemd-analyze', ['verify', '--man=no', join(folder, file)], {
      encoding: 'utf8',
    })
    // Whether this machine has the unit's programs and the other units is not the page's matter.
    const faults = (stderr ?? '')
      .split('\n')
      .filter((line) => line.includes(file) && !/is not executable|not found/.test(line))
    if (error === undefined && faults.length > 0) throw new Error(`${at}: systemd-analyze says:\n${faults.join('\n')}`)
  },
  // Without a file name it is compiled and run by `cargo test --doc`: see crates/core/src/guide.rs.
  rust() {},
}

/** Whether it is an example of the crate `ringbell`. */
export function isExample({ language, options }: Block): boolean {
  return language === 'rust' && options.has('file')
}

/** The programs of a section, and what they should print. */
function sourcesOf({ blocks }: Section): Source[] {
  const sources: Source[] = []
  for (const block of blocks) {
    const { at, language, options, code } = block
    const name = options.get('file') ?? PROGRAMS.get(language) ?? ''
    const same = sources.find((source) => source.name === name && language !== 'sh')
    if (language === 'text') {
      const of = options.get('of')
      const source = of === undefined ? sources.at(-1) : sources.find((one) => one.name === of)
      if (source === undefined || source.prints !== undefined) throw new Error(`${at}: whose output is this?`)
      source.prints = new Expectation(block)
    } else if (language === 'sh' && options.has('syntax')) {
      const { status, stderr } = spawnSync('bash', ['-n', '-c', code], { encoding: 'utf8' })
      if (status !== 0) throw new Error(`${at}: ${stderr}`)
    } else if (same !== undefined) same.code += code
    else if (PROGRAMS.has(language) || isExample(block)) sources.push({ name, block, code })
    else if (CHECKS[language] === undefined) throw new Error(`${at}: no rule for '${language}'`)
  }
  return sources
}

/** Writes the files of these sections, and gives the programs of the last one. */
export function writeFiles(sections: readonly Section[], folder: string): Source[] {
  let last: Source[] = []
  for (const section of sections) {
    last = sourcesOf(section)
    const data = section.blocks.filter(({ language, options }) => language in CHECKS && options.has('file'))
    const files = data.map(({ options, code }) => ({ name: options.get('file') ?? '', code }))
    for (const { name, code } of [...files, ...last]) {
      mkdirSync(dirname(join(folder, name)), { recursive: true })
      writeFileSync(join(folder, name), code)
    }
  }
  return last
}

/** Runs the last of these sections; the files of those before it are there, too. */
export async function runSection(sections: readonly Section[], folder: string, bin: string): Promise<void> {
  const sources = writeFiles(sections, folder)
  for (const block of sections.at(-1)?.blocks ?? []) CHECKS[block.language]?.(block, folder)
  const { NODE_OPTIONS: _, ...inherited } = process.env
  const path = [bin, dirname(process.execPath), process.env['PATH']].join(delimiter)
  const env = { ...inherited, PATH: path, IPC_BUS_DIR: join(folder, 'bus'), NO_COLOR: '1', TMPDIR: folder }
  const started: Program[] = []
  const start = (source: Source): Program => {
    const program = new Program(source, folder, env)
    started.push(program)
    return program
  }
  const commands = sources.filter(({ block }) => block.language === 'sh')
  const programs = sources.filter(({ block }) => block.language !== 'sh' && !block.options.has('written'))
  try {
    const running = programs.map(start)
    const telling = running.filter(({ prints }) => prints !== undefined)
    // Where the page says nothing of any output, every program has to come to its end.
    const awaited = telling.length === 0 && commands.length === 0 ? running : telling
    await Promise.all(awaited.map((program) => program.finish()))
    for (const command of commands) await start(command).finish()
    for (const program of running) program.check()
  } finally {
    await Promise.all(started.map((program) => program.kill()))
  }
}
